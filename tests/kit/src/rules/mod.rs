//! The rules as tests, one function a rule, in a file a group. Invariant: [`TABLE`] and the tests that
//! [`driver_contract!`](crate::driver_contract) makes come from one list.
//!
//! # How a rule is added
//! 1. Read its text in [`xio_core::contract`]; the test checks that text and nothing else.
//! 2. Write `pub fn d1(bench: &mut Bench) -> Checked` in the file of its group. Say first what it needs
//!    (`bench.needs_peer()?`, `needs_stream`, `needs_half_close` …): that gives "not applicable" with
//!    the property that makes it so. Then `bench.each(|w| …)` runs in a new world for every seed.
//!    Break off with [`ensure!`](crate::ensure), [`ensure_eq!`](crate::ensure_eq) or `?`. It must hold
//!    for every driver of these properties: nothing may be asked that the text does not promise.
//! 3. Add a line to the list below, under its group: id, name of the test (the id with two digits, then
//!    a sentence), function.
//! 4. Add its negative proof to [`PROOFS`](crate::saboteur::a_life::PROOFS) of its group: a driver in `saboteur` that makes
//!    this rule fail, a `compile_fail` doctest by name, or a fault that is planted in the engine
//!    (`planted("…")`, run by `.ci/mutations`). The test `every_rule_has_a_proof` fails until it is there.
//!
//! A saboteur should break one rule. Where others notice as well the proof lists them, and a test
//! compares the list with what happens.

pub mod a_life;
pub mod a_panic;
pub mod b_bounds;
pub mod b_close;
pub mod b_open;
pub mod c_buffers;
pub mod c_data;
pub mod c_pace;
pub mod c_units;
pub mod counted;
pub mod d_cut;
pub mod d_end;
pub mod data;
pub mod e_calls;
pub mod e_cancel;
pub mod e_gone;
pub mod e_time;
pub mod f_attr;
pub mod g_links;
pub mod g_server;
pub mod h_bytes;
pub mod h_compose;
pub mod h_memory;
pub mod h_resources;
pub mod mixed;
pub mod tag;
pub mod teller;
pub mod values;

use crate::bench::Bench;
use crate::verdict::Checked;

/// A rule that is written.
#[derive(Debug)]
#[non_exhaustive]
pub struct Entry {
    /// Its id.
    pub id: &'static str,
    /// Name of its tests.
    pub name: &'static str,
    /// What checks it.
    pub body: fn(&mut Bench) -> Checked,
}

/// The rule of this id, if it is written.
pub fn entry(id: &str) -> Option<&'static Entry> {
    TABLE.iter().find(|e| e.id.eq_ignore_ascii_case(id))
}

#[doc(hidden)]
#[macro_export]
macro_rules! __each_rule {
    ($callback:ident) => {
        $crate::$callback! {
            // A
            "A1" a01_every_op_finishes_exactly_once $crate::rules::a_life::a1;
            "A2" a02_one_call_one_answer $crate::rules::a_life::a2;
            "A3" a03_an_op_belongs_to_a_level_only_during_a_call $crate::rules::a_life::a3;
            "A4" a04_a_stale_number_harms_nobody $crate::rules::a_life::a4;
            "A5" a05_results_rise_as_they_were_finished $crate::rules::a_life::a5;
            "A6" a06_a_dropped_op_is_reported_not_lost $crate::rules::a_life::a6;
            "A7" a07_a_panic_stays_in_its_handle $crate::rules::a_panic::a7;
            "A8" a08_callbacks_come_once_and_before_that_of_the_close $crate::rules::a_life::a8;
            "A9" a09_ops_of_drivers_are_ops $crate::rules::a_life::a9;
            "A10" a10_a_level_that_only_passes_is_not_seen $crate::rules::a_life::a10;
            // B
            "B1" b01_a_failed_open_closes_exactly_what_was_open $crate::rules::b_open::b1;
            "B2" b02_the_error_of_an_open_is_that_of_the_level_that_failed $crate::rules::b_open::b2;
            "B3" b03_nothing_before_the_open_nothing_after_the_close $crate::rules::b_open::b3;
            "B4" b04_a_close_waits_until_all_ops_have_ended $crate::rules::b_close::b4;
            "B5" b05_after_a_close_nothing_is_left $crate::rules::b_close::b5;
            "B6" b06_closing_twice_or_from_anywhere_is_harmless $crate::rules::b_close::b6;
            "B7" b07_a_close_cannot_be_cancelled $crate::rules::b_close::b7;
            "B8" b08_a_dropped_handle_closes_itself $crate::rules::b_bounds::b8;
            "B9" b09_an_open_can_be_given_up_at_any_moment $crate::rules::b_open::b9;
            "B10" b10_a_close_does_as_asked_in_bounded_time $crate::rules::b_bounds::b10;
            "B11" b11_after_a_failed_open_the_next_one_works $crate::rules::b_open::b11;
            "B12" b12_an_engine_that_stops_ends_everything $crate::rules::b_bounds::b12;
            // C
            "C1" c01_what_is_read_is_what_was_written $crate::rules::c_data::c1;
            "C2" c02_a_read_gets_as_much_as_it_waits_for $crate::rules::c_data::c2;
            "C3" c03_a_read_that_can_never_be_satisfied_is_refused $crate::rules::c_data::c3;
            "C4" c04_any_list_of_pieces_can_be_written $crate::rules::c_buffers::c4;
            "C5" c05_a_read_writes_only_where_it_says $crate::rules::c_buffers::c5;
            "C6" c06_a_write_says_how_much_went $crate::rules::c_data::c6;
            "C7" c07_written_buffers_come_back_unchanged $crate::rules::c_buffers::c7;
            "C8" c08_nothing_can_be_read_and_written $crate::rules::c_data::c8;
            "C9" c09_datagrams_keep_their_borders $crate::rules::c_units::c9;
            "C10" c10_reads_end_in_the_order_they_began $crate::rules::c_pace::c10;
            "C11" c11_a_slow_peer_stops_the_writer $crate::rules::c_pace::c11;
            "C12" c12_a_busy_handle_starves_nobody $crate::rules::c_pace::c12;
            "C13" c13_reading_and_writing_do_not_wait_for_each_other $crate::rules::c_pace::c13;
            "C14" c14_cutting_does_not_change_results $crate::rules::c_pace::c14;
            "C15" c15_one_write_one_message $crate::rules::c_units::c15;
            "C16" c16_a_half_written_message_is_never_passed_over $crate::rules::c_units::c16;
            // D
            "D1" d01_every_waiting_read_sees_the_end $crate::rules::d_end::d1;
            "D2" d02_the_end_of_a_stream_stays $crate::rules::d_end::d2;
            "D3" d03_data_that_comes_with_the_end_is_not_lost $crate::rules::d_cut::d3;
            "D4" d04_an_end_inside_a_message_is_no_clean_end $crate::rules::d_cut::d4;
            "D5" d05_ending_one_side_leaves_the_other_alone $crate::rules::d_end::d5;
            "D6" d06_a_reset_is_not_an_end $crate::rules::d_end::d6;
            // E
            "E1" e01_a_cancelled_op_ends_once $crate::rules::e_cancel::e1;
            "E2" e02_a_cancel_is_prompt_and_loses_nothing $crate::rules::e_cancel::e2;
            "E3" e03_cancelling_what_is_over_does_nothing $crate::rules::e_cancel::e3;
            "E4" e04_a_cancel_asks_the_level_that_holds_the_op $crate::rules::e_cancel::e4;
            "E5" e05_a_deadline_is_a_cancel_that_says_so $crate::rules::e_time::e5;
            "E6" e06_timers_are_never_early $crate::rules::e_time::e6;
            "E7" e07_a_callback_may_do_anything_but_wait $crate::rules::e_calls::e7;
            "E8" e08_callbacks_run_without_locks $crate::rules::e_calls::e8;
            "E9" e09_callbacks_of_a_handle_run_one_by_one $crate::rules::e_calls::e9;
            "E10" e10_a_callback_is_the_last_act $crate::rules::e_calls::e10;
            "E11" e11_an_engine_may_be_dropped_anywhere $crate::rules::e_gone::e11;
            "E12" e12_a_handle_does_not_cross_a_fork $crate::rules::e_gone::e12;
            // F
            "F1" f01_a_copied_attr_is_independent $crate::rules::f_attr::f1;
            "F2" f02_an_open_keeps_the_attrs_it_was_made_with $crate::rules::f_attr::f2;
            "F3" f03_an_unknown_command_is_an_error $crate::rules::f_attr::f3;
            "F4" f04_a_wrong_value_is_an_error $crate::rules::f_attr::f4;
            "F5" f05_what_was_set_is_what_is_read $crate::rules::f_attr::f5;
            "F6" f06_a_command_reaches_its_level $crate::rules::f_attr::f6;
            "F7" f07_commands_and_ops_do_not_disturb_each_other $crate::rules::f_attr::f7;
            "F8" f08_attrs_are_made_and_dropped_in_pairs $crate::rules::f_attr::f8;
            // G
            "G1" g01_a_server_starts_from_both_ends $crate::rules::g_server::g1;
            "G2" g02_a_connection_is_one_link $crate::rules::g_links::g2;
            "G3" g03_a_servers_close_ends_its_accepts $crate::rules::g_links::g3;
            "G4" g04_a_failed_accept_does_not_end_a_server $crate::rules::g_server::g4;
            "G5" g05_connections_that_are_not_open_yet_are_bounded $crate::rules::g_server::g5;
            "G6" g06_a_link_can_be_asked_before_it_is_opened $crate::rules::g_links::g6;
            "G7" g07_handles_outlive_their_server $crate::rules::g_links::g7;
            // H
            "H1" h01_memory_is_bounded_and_comes_back $crate::rules::h_resources::h1;
            "H2" h02_no_descriptor_thread_or_timer_is_left $crate::rules::h_resources::h2;
            "H3" h03_running_out_of_memory_is_an_error $crate::rules::h_memory::h3;
            "H4" h04_an_error_says_what_happened_and_no_more $crate::rules::h_resources::h4;
            "H5" h05_ops_are_accounted_for $crate::rules::h_resources::h5;
            "H6" h06_hostile_bytes_do_no_harm $crate::rules::h_bytes::h6;
            "H7" h07_coding_is_the_identity $crate::rules::h_bytes::h7;
            "H8" h08_levels_compose $crate::rules::h_compose::h8;
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __table {
    ($($id:literal $name:ident $body:path;)+) => {
        /// The rules that are written, in the order of their ids.
        pub static TABLE: &[Entry] = &[$(Entry { id: $id, name: stringify!($name), body: $body }),+];
    };
}

__each_rule!(__table);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order_and_names_tests_by_their_rule() {
        let numbers: Vec<_> = TABLE
            .iter()
            .map(|e| xio_core::contract::RULES.iter().position(|r| r.id == e.id).expect("a rule of the contract"))
            .collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        for e in TABLE {
            let (group, n) = e.id.split_at(1);
            let prefix = format!("{}{:02}_", group.to_lowercase(), n.parse::<u32>().expect("a number"));
            assert!(e.name.starts_with(&prefix), "{} is called {}", e.id, e.name);
        }
    }
}
