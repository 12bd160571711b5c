//! Group D: end of stream, half close.
