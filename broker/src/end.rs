//! The end of a process that must not go on.

/// Exit code of a server whose log or state can not be trusted any more.
const CANNOT_GO_ON: i32 = 70;

/// Ends the process at once, with exit code 70. The rest of the group goes on, and whoever supervises
/// this process starts it again.
///
/// Without what runs at an ordinary exit: that would take RocksDB apart while other threads are in it,
/// and end in an abort.
pub fn end_process(why: &str) -> ! {
    tracing::error!(why, "ending the process");
    signal_hook::low_level::exit(CANNOT_GO_ON)
}
