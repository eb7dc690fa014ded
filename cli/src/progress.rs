//! How far a long command is: one line on a terminal, rewritten in place.
//!
//! It goes to standard error, so that it is not part of what the command prints; nothing is shown
//! when nobody looks at it.

use std::io;
use std::io::IsTerminal;
use std::io::Write;

use crate::output::Format;
use crate::output::OutputArgs;

const BAR_WIDTH: u64 = 30;

/// Takes the line away when it is dropped.
pub struct Progress {
    total: u64,
    visible: bool,
}

impl Progress {
    /// Of `total` steps; for people only.
    pub fn new(output: OutputArgs, total: u64) -> Self {
        let visible = output.output == Format::Text && io::stderr().is_terminal();
        Self { total, visible }
    }

    /// Shows that `done` steps are done.
    pub fn show(&mut self, done: u64, text: &str) {
        if self.visible {
            write(&format!("\r{}\x1b[K", line(done, self.total, text)));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.visible {
            write("\r\x1b[K");
        }
    }
}

fn write(text: &str) {
    let mut err = io::stderr().lock();
    // Whoever does not see it misses nothing.
    let _written = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

fn line(done: u64, total: u64, text: &str) -> String {
    let total = total.max(1);
    let done = u128::from(done.min(total));
    let part = |of: u64| (done * u128::from(of) / u128::from(total)) as usize;
    let bar = "#".repeat(part(BAR_WIDTH));
    format!("[{bar:.<width$}] {:>3} %  {text}", part(100), width = BAR_WIDTH as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_grows_with_what_is_done() {
        assert_eq!(line(0, 10, "x"), format!("[{}]   0 %  x", ".".repeat(30)));
        assert_eq!(line(5, 10, "x"), format!("[{}{}]  50 %  x", "#".repeat(15), ".".repeat(15)));
        assert_eq!(line(11, 10, "x"), format!("[{}] 100 %  x", "#".repeat(30)));
        assert_eq!(line(0, 0, ""), format!("[{}]   0 %  ", ".".repeat(30)));
        assert!(line(u64::MAX, u64::MAX, "").contains("100 %"));
    }
}
