//! Random trees of levels under random scripts, against a model: a byte stream or a row of messages
//! for each branch and direction. What is written into a branch comes out of it, once, in order, with
//! its borders, and says where it came from; what is not allowed to get lost does not. The same
//! programs run over real sockets and pipes, and over the simulated network with its short transfers.

mod drawn;
mod fair;
mod fit;
mod line;
pub mod matrix;
mod model;
mod run;
mod script;
mod tree;

pub use drawn::{Below, drawn};
pub use fair::{Program as Reads, program as reads, run as read_fairly};
pub use run::{real, simulated};
pub use script::{Program, program};
