use std::io::{self, Write};

use super::Watched;
use crate::{
    commands::views,
    output::{clean, cut},
};

/// The widest line of a frame: a line that wraps would spoil the redrawing.
const WIDTH: usize = 79;

/// Rounds and members in a frame: with its other lines it fits 24 lines.
const ROUNDS_MAX: usize = 12;
const MEMBERS_MAX: usize = 8;

/// A frame at the bottom of a terminal that is replaced by the next one. Events scroll above it.
#[derive(Debug, Default)]
pub(super) struct Screen {
    /// Lines of the frame that is shown.
    height: usize,
}

impl Screen {
    /// Replaces the frame, after new events.
    pub(super) fn draw(&mut self, watched: &Watched, events: &[String]) -> io::Result<()> {
        let frame = frame(watched);
        self.replace(events.iter().map(|event| clean(event)).chain(frame.iter().cloned()))?;
        self.height = frame.len();
        Ok(())
    }

    /// Replaces the frame by all rounds and how the run ended.
    pub(super) fn end(&mut self, watched: &Watched) -> io::Result<()> {
        let mut lines = Vec::new();
        if !watched.rounds.is_empty() {
            lines = views::rounds_table(&watched.rounds, true).lines();
        }
        lines.push(watched.summary.headline());
        self.replace(lines.into_iter())
    }

    fn replace(&mut self, lines: impl Iterator<Item = String>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.height > 0 {
            // To the first line of the frame, then clear to the end of the screen.
            write!(out, "\x1b[{}A\r\x1b[J", self.height)?;
            self.height = 0;
        }
        for line in lines {
            writeln!(out, "{line}")?;
        }
        out.flush()
    }
}

/// The last rounds, what goes on, and who takes part.
fn frame(watched: &Watched) -> Vec<String> {
    let mut lines = Vec::new();
    let hidden = watched.rounds.len().saturating_sub(ROUNDS_MAX);
    if !watched.rounds.is_empty() {
        lines.extend(views::rounds_table(&watched.rounds[hidden..], true).lines());
    }
    let summary = &watched.summary;
    let planned = summary.rounds_planned;
    let mut line = format!("run {}: {}, round {} of {planned}", summary.run, summary.state, watched.round);
    if !summary.cause.is_empty() {
        line = format!("{line}: {}", summary.cause);
    }
    lines.push(line);
    for member in watched.members.iter().take(MEMBERS_MAX) {
        lines.push(format!("  {}: {}", member.worker, member.state));
    }
    if let more @ 1.. = watched.members.len().saturating_sub(MEMBERS_MAX) {
        lines.push(format!("  and {more} more"));
    }
    lines.iter().map(|line| cut(&clean(line), WIDTH)).collect()
}

#[cfg(test)]
mod tests {
    use proto::v1::Member;

    use super::{super::views::tests::report, *};

    #[test]
    fn a_frame_always_fits_a_small_terminal() {
        let mut watched = Watched::default();
        watched.summary.run = "iris-1".into();
        watched.summary.state = "gathering".into();
        watched.summary.rounds_planned = 200;
        watched.round = 1;
        assert_eq!(frame(&watched), ["run iris-1: gathering, round 1 of 200"]);
        watched.summary.cause = format!("waiting\x1b{}", "x".repeat(200));
        watched.rounds = (1..=100).map(|round| report(round).into()).collect();
        let member = |n: usize| Member { worker: format!("w{n}"), state: "working 40 %".into() };
        watched.members = (0..20).map(member).collect();
        let frame = frame(&watched);
        assert_eq!(frame.len(), 1 + 12 + 1 + 8 + 1);
        assert!(frame.iter().all(|line| line.chars().count() <= WIDTH && !line.contains('\x1b')));
        assert!(frame[1].trim_start().starts_with("89 ") && frame[12].trim_start().starts_with("100 "));
        assert_eq!((frame[14].as_str(), frame[22].as_str()), ("  w0: working 40 %", "  and 12 more"));
    }
}
