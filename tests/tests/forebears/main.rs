//! What Globus XIO and EVPath are known to do wrong, defect by defect, each with the test that shows that it does
//! not happen here, or why it cannot. Those that had no test elsewhere have it in this folder. Invariant: every
//! test that is named here exists.
//!
//! | defect | shown by |
//! |---|---|
//! | **Globus XIO, drivers that break the contract** | |
//! | an op finished twice gives 16 bytes of 8, then crashes | does not compile (`op/mod.rs`); a token: `a_stale_token_does_not_end_a_later_hold_of_the_same_op` |
//! | an op that is never finished makes close hang for ever | `a_close_that_nobody_lets_out_is_forced_when_its_time_is_up` |
//! | a driver may report more bytes than the buffer has | `a_driver_cannot_give_more_than_there_is_room_for` |
//! | finishing and returning an error as well crashes | cannot occur: a level has one answer |
//! | a read finished as a write aborts | does not compile (`op/mod.rs`) |
//! | success with 0 bytes recurses until the stack is gone | `success_without_a_byte_is_an_error` |
//! | a transport that passes down aborts | `a_transport_that_passes_down_fails_its_op` |
//! | short reads that finish at once recurse until the stack is gone | `reads_of_one_byte_that_finish_at_once_need_no_stack` |
//! | an op that is touched after it was passed is noticed in debug builds only | does not compile (`op/mod.rs`) |
//! | a compressor reports its own count of bytes to the writer, and parts are written again | `a_level_that_shrinks_its_bytes_reports_those_of_its_writer` |
//! | a decoder that failed finishes with success and nothing | `success_without_a_byte_is_an_error`, `d04_an_end_inside_a_message_is_no_clean_end` |
//! | a driver writes the first piece of several only | `c04_any_list_of_pieces_can_be_written` |
//! | a level waits for less than its header and body | `c02_a_read_gets_as_much_as_it_waits_for` |
//! | attrs that a driver leaves unset, or mixes up between levels | `f01_a_copied_attr_is_independent`, `f06_a_command_reaches_its_level` |
//! | **Globus XIO, stack strings** | |
//! | unknown options and wrong values are taken without a word; blanks, case and order end in a failed load; an option crashes; the first of two wins | `what_globus_xio_mistakes` |
//! | a stack cannot be printed, and has no tree | `what_can_be_read_can_be_printed_and_read_again` |
//! | a port range of one port divides by zero | `a_port_range_of_one_port_is_that_port` |
//! | **Globus XIO, engine** | |
//! | lists, timers and the thread model belong to the process | `many_pairs_over_two_engines`, `two_drivers_do_not_know_each_other` |
//! | environment variables decide how it works | `no_library_code_ends_its_process_or_asks_its_environment` |
//! | a lock that is held across a fork | `e12_a_handle_does_not_cross_a_fork` |
//! | commands without types, whose numbers collide | cannot occur: a command is a type; an unknown one: `f03_an_unknown_command_is_an_error` |
//! | descriptors beyond what `select` can count | `descriptors_beyond_1024_are_watched_like_others` |
//! | each poll walks all timers | cannot occur: they stand in order (`engine/timers.rs`); `timers_that_were_dropped_leave_nothing` |
//! | O_NONBLOCK is set and reset around each call, by both directions at once | `an_op_that_need_not_wait_is_one_system_call`, `a_dash_reads_standard_input_and_leaves_it_as_it_was` |
//! | a blocking call in a callback runs other callbacks inside it | `no_callback_runs_while_its_thread_has_an_op_in_hand`, `a_blocking_call_in_a_callback_on_the_engines_thread_is_an_error` |
//! | an error does not say which level | `errors_name_the_level_the_op_and_the_address` |
//! | a write after a failed read or write hangs | `after_an_error_every_op_ends` |
//! | an open that times out and is cancelled leaks | `a_deadline_or_a_dropped_future_ends_every_attempt`, `an_open_that_takes_too_long_leaves_nothing_behind` |
//! | a closed handle is freed twice | `two_closes_at_once`, `a_close_from_a_callback_and_a_second_one` |
//! | an end of stream comes in another order than the reads | `d01_every_waiting_read_sees_the_end`, `d02_the_end_of_a_stream_stays` |
//! | a deadline of 200 ms fires after 400 or 600 | `a_deadline_fires_at_exactly_its_time_in_every_ending` |
//! | a timeout is told as a cancel | `e05_a_deadline_is_a_cancel_that_says_so` |
//! | a bytes-ahead read is copied, since merging was never built | `chunks_are_merged_uncopied` |
//! | a second accept at once fails | `several_accepts_wait_at_once_in_order` |
//! | drivers are unloaded under open handles | `handles_outlive_the_registry_and_the_stack_they_come_from` |
//! | **Globus XIO, its tests and tools** | |
//! | failing closes are not run; bytes are never compared; a seed cannot be given | `every_call_of_a_driver_fails_once`, `bytes_arrive_in_order_whatever_the_network_does`, `equal_seeds_run_alike` |
//! | what a benchmark sends is whatever was in memory | cannot occur: a writer has bytes that were written; a reader: `c05_a_read_writes_only_where_it_says` |
//! | **EVPath** | |
//! | D1: whoever connects and is silent stops all timers and connections | `a_silent_peer_holds_up_nobody` |
//! | D2: so does one who stops inside a message | `a_peer_that_stops_anywhere_in_a_message_holds_up_nobody` |
//! | D3: closing hangs with three udp connections | `three_links_close_in_every_order` |
//! | D4: a transport crashes on an open or listen it cannot do | `every_driver_opens_and_listens_or_says_why_not` |
//! | D5: a contact that is cut or changed aborts the process | `hostile_texts_are_refused_at_once_on_a_small_stack`, `garbage_never_panics` |
//! | D6: two processes share an id, and one gets the other's connection | cannot occur: peers have no ids, they are known by contact: `peers_and_own_servers_are_known_by_contact` |
//! | D7: public helpers that never worked | cannot occur unseen: what is public has an example that runs as a test |
//! | D8: an idle listener uses a whole CPU | `an_idle_server_has_nothing_to_wake_for` |
//! | D9: each buffer that a user keeps makes the next read dearer | cannot occur: nobody lists what was handed out; `a_take_hands_out_the_writers_own_memory` |
//! | D10: schedules in another order are refused, bad ones called fine | there are no schedules yet |
//! | D11: a completion is never told, or told of a failure | `every_op_ends_once_over_tcp`, `every_op_ends_once_in_a_simulated_network` |
//! | D12: after half a write the connection goes on as if nothing were | `a_stopped_write_tears_its_message_and_says_so` |
//! | D13: more pieces than the system takes at once are miscounted | `a_write_of_many_pieces_arrives_whole` |
//! | D14: a failed send leaves a lock held | `every_system_call_fails_once` |
//! | D15: a library ends the process | `no_library_code_ends_its_process_or_asks_its_environment`, `an_error_of_the_system_ends_one_op_and_no_process` |
//! | D16: one failed accept ends a listener | `a_server_survives_the_lack_of_descriptors`, `out_of_descriptors_accepts_wait_longer_and_longer_and_go_on` |
//! | D17: signals and addresses are set for the whole process | `an_engine_changes_nothing_of_its_process` |
//! | D18: what is written and what is done differ | the contract is run: `the_table_is_what_running_the_rules_gives` |
//! | udp: what is longer than 25,600 bytes is cut, and nobody told | `nothing_is_cut_silently` |
//! | its tests of back-pressure exist and do not run; a wrong sum is printed and passes | `c11_a_slow_peer_stops_the_writer`; `.ci/run` refuses `#[ignore]` |

mod fixture;
mod levels;
mod peers;
mod process;
mod stacks;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The top of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it lies in a folder").to_owned()
}

/// Every source file under a folder, with its text.
fn sources(under: &Path) -> Vec<(PathBuf, String)> {
    let mut out = Vec::new();
    let mut folders = vec![under.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                out.push((path, text));
            }
        }
    }
    out
}

#[test]
fn every_test_that_the_table_names_exists() {
    let rows = include_str!("main.rs").lines().filter_map(|l| l.strip_prefix("//! | "));
    // The names in the last cell; what is no name of a test has a dot, a slash or a bracket in it.
    let cells = rows.filter_map(|r| r.strip_suffix(" |")?.rsplit(" | ").next());
    let named: BTreeSet<_> = cells
        .flat_map(|c| c.split('`').skip(1).step_by(2))
        .filter(|n| n.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
        .collect();
    assert!(named.len() > 50, "the table is not found: {named:?}");
    let mut missing = named;
    for folder in ["xio-core", "drivers", "stacks", "tests"] {
        for (_, text) in sources(&root().join(folder)) {
            // A test, or a rule of the contract, of which the kit makes tests.
            missing.retain(|n| !text.contains(&format!("fn {n}(")) && !text.contains(&format!(" {n} $crate::rules::")));
        }
    }
    assert!(missing.is_empty(), "there are no such tests: {missing:?}");
}
