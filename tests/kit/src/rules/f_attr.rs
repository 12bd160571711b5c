//! Group F: attrs and commands.
