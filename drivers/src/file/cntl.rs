//! The commands: where the file is, its options, its position. Invariant: a command that is refused
//! changes nothing.

use xio_core::attr::{Attr, check_value};
use xio_core::cntl::{Cntl, GetOption, Offset, RemoteContact, SetOption};
use xio_core::schema::{OptionSpec, Value};
use xio_core::{Cx, Error, ErrorKind};

use super::Options;
use super::data::Ahead;
use super::level::File;
use super::options::{MAX_OFFSET, wrong};

impl File {
    pub(super) fn answer(&mut self, cx: &Cx<'_>, c: &mut Cntl<'_>) -> Result<(), Error> {
        if c.command::<RemoteContact>().is_some() {
            return c.reply::<RemoteContact>(self.contact.clone());
        }
        if let Some(GetOption(name)) = c.command()
            && let Some(o) = &self.changed
            && Options::SPECS.iter().any(|s| s.name == name)
        {
            return c.reply::<GetOption>(o.value(name));
        }
        if let Some(SetOption(name, value)) = c.command()
            && let Some(spec) = Options::SPECS.iter().find(|s| s.name == name)
        {
            return self.set_option(cx, spec, value).and_then(|()| c.reply::<SetOption>(()));
        }
        if let Some(Offset(to)) = c.command() {
            return self.offset(*to, c);
        }
        Err(c.unsupported())
    }

    fn set_option(&mut self, cx: &Cx<'_>, spec: &OptionSpec, value: &Value) -> Result<(), Error> {
        let name = spec.name;
        check_value(spec, value)?;
        if !spec.runtime {
            let text = format!("`{name}` cannot change while the file is open; set it in the stack and open again");
            return Err(wrong(text));
        }
        let mut changed = self.options(cx);
        changed.set(name, value.clone())?;
        changed.check()?;
        self.changed = Some(changed);
        Ok(())
    }

    /// Moves or tells the position.
    fn offset(&mut self, to: Option<u64>, c: &mut Cntl<'_>) -> Result<(), Error> {
        let Some(place) = &mut self.place else { return Err(ErrorKind::Closed.into()) };
        let Some(side) = place.input.as_ref().or(place.output.as_ref()).cloned() else {
            return Err(ErrorKind::Closed.into());
        };
        if !side.seekable {
            let text = format!("{} is no regular file, so it has no offsets", place.name);
            return Err(Error::new(ErrorKind::Unsupported).detail(text));
        }
        let both = place.input.is_some() && place.output.is_some() && !place.is_shared_by_directions();
        match to {
            Some(_) if both => {
                let text = format!("{} are two files with a position each; open them one by one", place.name);
                Err(Error::new(ErrorKind::Unsupported).detail(text))
            }
            Some(_) if place.output.as_ref().is_some_and(|s| s.appends) => {
                let text = format!("{} is written at the end, wherever that is", place.name);
                Err(Error::new(ErrorKind::Unsupported).detail(text))
            }
            Some(to) if to > MAX_OFFSET => Err(wrong(format!("no file reaches offset {to}"))),
            Some(to) => {
                place.position = Some(to);
                self.epoch = self.epoch.wrapping_add(1);
                self.ahead = Ahead::default();
                c.reply::<Offset>(to)
            }
            None => match place.position {
                Some(p) => c.reply::<Offset>(p),
                None => {
                    // The system's position is ahead of the reader by what lies here.
                    let ahead = self.ahead.len() as u64;
                    c.reply_later::<Offset>(move || {
                        let at = match side.appends {
                            true => rustix::fs::fstat(&*side.descriptor).map(|s| s.st_size.cast_unsigned()),
                            false => rustix::fs::tell(&*side.descriptor),
                        };
                        Ok(at.map_err(std::io::Error::from)?.saturating_sub(ahead))
                    })
                }
            },
        }
    }
}
