//! Group G: servers and links.
