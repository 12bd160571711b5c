//! Group H: resources, errors, composition.
