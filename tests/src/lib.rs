//! Integration tests live in `tests/tests`, measurements in `src/bin`.
