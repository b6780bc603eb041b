use std::io::{self, IsTerminal, Write};

use service::clock::Clock;

use crate::output::{bytes, note};

/// How often a bar on a terminal moves, in milliseconds.
const BAR_MS: u64 = 100;

/// How often a line is printed elsewhere, in milliseconds.
const LINE_MS: u64 = 10_000;

const BAR_WIDTH: u64 = 30;

/// Tells on standard error how far a transfer is: a bar on a terminal, now and then a line elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    what: String,
    total: u64,
    clock: Clock,
    shown_ms: u64,
    terminal: bool,
}

impl Progress {
    /// A transfer of `total` bytes.
    pub(crate) fn new(what: impl Into<String>, total: u64) -> Self {
        let terminal = io::stderr().is_terminal();
        Self { what: what.into(), total, clock: Clock::start(), shown_ms: 0, terminal }
    }

    /// `done` bytes are through.
    pub(crate) fn at(&mut self, done: u64) {
        let now = self.clock.now_ms();
        let interval = if self.terminal { BAR_MS } else { LINE_MS };
        if now < self.shown_ms + interval {
            return;
        }
        self.shown_ms = now;
        if self.terminal {
            let _ = write!(io::stderr().lock(), "\r{}\x1b[K", bar(&self.what, done, self.total));
        } else {
            note(&format!("{}: {} of {}", self.what, bytes(done), bytes(self.total)));
        }
    }
}

impl Drop for Progress {
    /// Removes the bar: what follows says how it ended.
    fn drop(&mut self) {
        if self.terminal && self.shown_ms > 0 {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

fn bar(what: &str, done: u64, total: u64) -> String {
    let done = done.min(total);
    let part = |of: u64| (u128::from(done) * u128::from(of) / u128::from(total.max(1))) as usize;
    let full = part(BAR_WIDTH);
    let (filled, empty) = ("#".repeat(full), "-".repeat(BAR_WIDTH as usize - full));
    format!("{what} [{filled}{empty}] {:3} % of {}", part(100), bytes(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills() {
        assert_eq!(bar("pull", 0, 2048), format!("pull [{}]   0 % of 2.0 KiB", "-".repeat(30)));
        let half = format!("pull [{}{}]  50 % of 2.0 KiB", "#".repeat(15), "-".repeat(15));
        assert_eq!(bar("pull", 1024, 2048), half);
        // More than was announced, and nothing at all.
        assert_eq!(bar("pull", 9999, 2048), format!("pull [{}] 100 % of 2.0 KiB", "#".repeat(30)));
        assert_eq!(bar("pull", 0, 0), format!("pull [{}]   0 % of 0 B", "-".repeat(30)));
        assert_eq!(bar("pull", u64::MAX, u64::MAX).matches('#').count(), 30);
    }
}
