//! What can be set on a `frame` level.

use xio_core::attr::Size;
use xio_core::schema::ValueKind;
use xio_core::{Error, ErrorKind};

xio_core::options! {
    /// Options of the `frame` driver.
    pub struct Options for "frame" {
        /// Bytes of the length in front of each message: 1, 2, 4 or 8.
        header, with_header: u8 = 4, ValueKind::Int { min: 1, max: 8 };
        /// Longest message, both ways.
        max, with_max: Size = Size(16 << 20), ValueKind::Size { min: 1, max: 1 << 40 };
        check check_options;
    }
}

fn check_options(o: &Options) -> Result<(), Error> {
    if !matches!(o.header, 1 | 2 | 4 | 8) {
        return Err(Error::new(ErrorKind::InvalidInput)
            .detail(format!("`header` is {}: a length has 1, 2, 4 or 8 bytes", o.header)));
    }
    let fits = o.header == 8 || o.max.0 < 1 << (8 * u32::from(o.header));
    if !fits && o.max != Options::default().max {
        return Err(
            Error::new(ErrorKind::InvalidInput).detail(format!("`max` does not fit a header of {} bytes", o.header))
        );
    }
    Ok(())
}
