//! The spec language: a stack as text, top first, `/` read as "over".
//!
//! ```text
//! queue(depth=64, high=256KiB)/frame/tcp(nodelay)
//! pick{wifi: frame/tcp(device=wlan0), *: frame/tcp}
//! ```
//!
//! ```ebnf
//! spec      = ws , stack , ws ;
//! stack     = level , { ws , "/" , ws , level } ;            (* top first *)
//! level     = ( name | "@" , name ) , [ options ] , [ ws , branches ] ;
//!             (* a level with branches must be the last of its stack *)
//! options   = "(" , [ item-list(option) ] , ")" ;
//! option    = key , [ ws , "=" , ws , value ] ;              (* bare key = key=true *)
//! key       = name , { "." , name } ;                        (* dots only to override inside a preset *)
//! branches  = "{" , item-list(branch) , "}" ;                (* at least one *)
//! branch    = label , ws , ":" , ws , stack ;
//! label     = "*" | 1*( ALPHA | DIGIT | "_" | "-" | "+" ) ;  (* "*": every other label *)
//! value     = bare | string | list ;
//! bare      = 1*( ALPHA | DIGIT | "_" "-" "." ":" "/" "+" "%" "*" "~" "^" "@" ) ;
//! string    = '"' , { char | "\" ( '"' | "\" | "n" | "t" | "r" | "u{" 1*6HEX "}" ) } , '"' ;
//! list      = "[" , [ item-list(value) ] , "]" ;
//! item-list(x) = ws x { ws "," ws x } [ ws "," ] ws ;        (* trailing comma allowed *)
//! name      = LOWER , { LOWER | DIGIT | "_" | "-" } ;
//! ws        = { SP | TAB | CR | LF | "#" … end-of-line } ;   (* `#` cannot occur in a bare value *)
//! ```
//!
//! A `char` of a string is any character but a control character. The parser does not know what
//! kind of value an option takes: the driver's schema says so when the stack is bound.
//!
//! Laws, each a property test: `parse(print(a)) == a`; `print(parse(print(a))) == print(a)`; printed
//! text holds none of `' $ \` !` and no control character, so it stands in shell or TOML single
//! quotes as it is.

mod ast;
mod parse;
mod print;
mod scan;
mod value;

pub use ast::{BranchSpec, LevelSpec, SpecOption, SpecValue, StackSpec};
pub(crate) use ast::{ID, Source, Span};
pub(crate) use parse::{endpoint, spec};
pub(crate) use scan::shown;

/// Longest spec in bytes.
pub const MAX_SPEC: usize = 64 * 1024;
/// Deepest nesting of branches.
pub const MAX_BRANCH_DEPTH: usize = 32;
/// Most levels in a spec, all branches together.
pub const MAX_LEVELS: usize = 256;
/// Most options of one level.
pub const MAX_OPTIONS: usize = 64;
/// Most branches of one level.
pub const MAX_BRANCHES: usize = 64;
/// Longest value in bytes.
pub const MAX_VALUE: usize = 16 * 1024;
/// Deepest nesting of lists.
pub const MAX_LIST_DEPTH: usize = 4;

/// Whether `text` can stand for a driver or an option.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
}
