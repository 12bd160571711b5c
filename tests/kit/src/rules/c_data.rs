//! Group C: the data path.

use super::data::{transfer, units};
use crate::bench::Bench;
use crate::dice::Dice;
use crate::verdict::Checked;

/// What is read is what was written.
///
/// # Errors
/// See the rule's text.
pub fn c1(bench: &mut Bench) -> Checked {
    bench.needs_peer()?;
    bench.needs_order()?;
    bench.each(|w| {
        let pair = w.pair()?;
        let mut dice = Dice::new(w.seed);
        let most = w.caps().max_message.unwrap_or(usize::MAX).min(12_000);
        for (from, to) in pair.both_ways() {
            transfer(w, from, to, &units(dice.roll(), 12, most), &mut dice)?;
        }
        Ok(())
    })
}
