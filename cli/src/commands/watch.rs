//! Following a run: a table that redraws itself on a terminal, one line per round and event elsewhere.

mod screen;
mod told;

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use proto::v1::{Member, WatchRunRequest, WatchRunResponse};

use self::{screen::Screen, told::Told};
use super::{run::print, views};
use crate::{
    error::CliError,
    output::{self, Format},
    session::Session,
};

/// How long to wait before a lost connection is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How often in a row: a coordinator that restarts is back within this time.
const RETRIES_MAX: u32 = 60;

/// What is known of a run.
#[derive(Debug, Default)]
struct Watched {
    summary: views::Run,
    rounds: Vec<views::Round>,
    members: Vec<Member>,
    round: u32,
    told: Told,
}

/// What a message adds.
#[derive(Debug, Default, PartialEq)]
struct News {
    /// Index of the first new round.
    rounds_from: usize,
    events: Vec<String>,
}

/// How it is shown.
enum View {
    /// A terminal.
    Live(Screen),
    /// One line per round and event.
    Lines,
    /// One object per round.
    Jsonl,
    /// One object at the end.
    Json,
}

/// Follows a run until it has ended, or until Ctrl-C. A run that failed is an error.
pub(super) async fn run(session: &Session, format: Format, run: &str) -> Result<(), CliError> {
    let mut view = match format {
        Format::Table if io::stdout().is_terminal() => View::Live(Screen::default()),
        Format::Table => View::Lines,
        Format::Json => View::Json,
        Format::Jsonl => View::Jsonl,
    };
    let mut watched = Watched::default();
    let ended = tokio::select! {
        ended = follow(session, run, &mut watched, &mut view) => ended,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            output::note(&format!(
                "\nno longer watching; run {run} goes on. Watch it again: `conclave run watch {run}`; stop it: \
                 `conclave run stop {run}`"
            ));
            return Ok(());
        }
    };
    ended?;
    view.end(&watched)?;
    match watched.summary.state.as_str() {
        "failed" => {
            Err(CliError::RunFailed { run: run.to_owned(), cause: output::clean(&watched.summary.cause) })
        }
        _ => Ok(()),
    }
}

/// Follows until the end, over lost connections.
async fn follow(
    session: &Session,
    run: &str,
    watched: &mut Watched,
    view: &mut View,
) -> Result<(), CliError> {
    let mut retries = 0;
    loop {
        let lost = match stream(session, run, watched, view, &mut retries).await {
            Ok(()) if watched.summary.has_ended() => return Ok(()),
            Ok(()) => None,
            // Before the first message there is nothing to go on with.
            Err(error) if error.is_passing() && !watched.summary.run.is_empty() => Some(error),
            Err(error) => return Err(error),
        };
        if retries == 0 {
            view.leave();
            output::note("lost the coordinator; trying again");
        }
        retries += 1;
        if retries > RETRIES_MAX {
            let ended =
                || CliError::Answer(format!("it no longer tells about run {run}, which has not ended"));
            return Err(lost.unwrap_or_else(ended));
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Follows until the connection ends.
async fn stream(
    session: &Session,
    run: &str,
    watched: &mut Watched,
    view: &mut View,
    retries: &mut u32,
) -> Result<(), CliError> {
    let request = WatchRunRequest { run: run.to_owned() };
    let mut messages = session.control().watch_run(request).await?.into_inner();
    let mut first = true;
    while let Some(message) = messages.message().await? {
        *retries = 0;
        let news = watched.apply(message, first);
        view.show(watched, &news)?;
        first = false;
    }
    Ok(())
}

impl Watched {
    /// Takes in a message. The first one of a connection repeats what is known already.
    fn apply(&mut self, message: WatchRunResponse, first: bool) -> News {
        let rounds_from = self.rounds.len();
        let last = self.rounds.last().map_or(0, |round| round.round);
        self.rounds.extend(message.rounds.into_iter().filter(|r| r.round > last).map(views::Round::from));
        if let Some(summary) = message.summary {
            self.summary = summary.into();
        }
        self.members = message.members;
        self.round = message.round;
        let events = if first {
            self.told.repeat(message.events)
        } else {
            self.told.add(&message.events);
            message.events
        };
        News { rounds_from, events }
    }
}

impl View {
    fn show(&mut self, watched: &Watched, news: &News) -> io::Result<()> {
        let rounds = &watched.rounds[news.rounds_from..];
        match self {
            Self::Live(screen) => screen.draw(watched, &news.events),
            Self::Lines => {
                let events = news.events.iter().map(|event| output::clean(event));
                output::lines(&events.chain(rounds.iter().map(line)).collect::<Vec<_>>())
            }
            Self::Jsonl => rounds.iter().try_for_each(output::jsonl),
            Self::Json => Ok(()),
        }
    }

    /// Something else is about to be printed: what is shown stays.
    fn leave(&mut self) {
        if let Self::Live(screen) = self {
            *screen = Screen::default();
        }
    }

    fn end(&mut self, watched: &Watched) -> io::Result<()> {
        match self {
            Self::Live(screen) => screen.end(watched),
            Self::Lines => output::lines(&[watched.summary.headline()]),
            Self::Json => {
                print(Format::Json, &watched.summary, &watched.summary.with(watched.rounds.clone()))
            }
            // Its lines are rounds, and all of them are out.
            Self::Jsonl => Ok(()),
        }
    }
}

/// A finished round on one line.
fn line(round: &views::Round) -> String {
    let mut line = format!("round {}:", round.round);
    for (word, name) in [("loss", "train_loss"), ("test loss", "test_loss"), ("accuracy", "test_accuracy")] {
        let value = round.metric(name);
        if !value.is_empty() {
            line = format!("{line} {word} {value},");
        }
    }
    let (up, down) = (output::bytes(round.bytes_up), output::bytes(round.bytes_down));
    let (updates, cohort) = (round.updates, round.cohort.len());
    format!("{line} {updates} of {cohort} workers, {up} up, {down} down, {:.1} s", round.seconds)
}

#[cfg(test)]
mod tests {
    use proto::v1::RunSummary;

    use super::{views::tests::report, *};

    fn message(rounds: &[u32], events: &[&str]) -> WatchRunResponse {
        WatchRunResponse {
            summary: Some(RunSummary {
                run: "iris-1".into(),
                state: "training".into(),
                ..Default::default()
            }),
            rounds: rounds.iter().map(|&round| report(round)).collect(),
            members: vec![],
            round: 0,
            events: events.iter().map(|&event| event.to_owned()).collect(),
        }
    }

    #[test]
    fn a_new_connection_repeats_nothing() {
        let mut watched = Watched::default();
        let news = watched.apply(message(&[1, 2], &["a", "b"]), true);
        assert_eq!(news, News { rounds_from: 0, events: vec!["a".into(), "b".into()] });
        // The same thing happens twice: it is told twice.
        let news = watched.apply(message(&[], &["b"]), false);
        assert_eq!(news, News { rounds_from: 2, events: vec!["b".into()] });
        // The connection was lost, and all is sent again.
        let news = watched.apply(message(&[1, 2, 3], &["a", "b", "b", "c"]), true);
        assert_eq!(news, News { rounds_from: 2, events: vec!["c".into()] });
        assert_eq!(watched.rounds.iter().map(|r| r.round).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn a_restarted_coordinator_repeats_and_loses_nothing() {
        let mut watched = Watched::default();
        let lost = "round 1: lost b: no progress for 10 s";
        watched.apply(message(&[1], &["a is ready", "b is ready"]), true);
        watched.apply(message(&[], &[lost]), false);
        // Killed; its list was rebuilt from the journal, and b came back in the meantime.
        let rebuilt = ["a is ready", "b is ready", lost, "the coordinator was restarted", "b is ready"];
        let news = watched.apply(message(&[1, 2], &rebuilt), true);
        assert_eq!(news.rounds_from, 1);
        assert_eq!(news.events, ["the coordinator was restarted", "b is ready"]);
        // And again, before anything else happened.
        let rebuilt = [&rebuilt[..], &["the coordinator was restarted"]].concat();
        let news = watched.apply(message(&[1, 2], &rebuilt), true);
        assert_eq!(news, News { rounds_from: 2, events: vec!["the coordinator was restarted".into()] });
        assert_eq!(watched.apply(message(&[1, 2], &rebuilt), true), News { rounds_from: 2, events: vec![] });
    }

    #[test]
    fn a_paused_run_is_watched_on() {
        let mut watched = Watched::default();
        let mut paused = message(&[1], &["paused by operator admin"]);
        paused.summary = paused.summary.map(|summary| RunSummary { state: "paused".into(), ..summary });
        let news = watched.apply(paused, true);
        assert_eq!(news.events, ["paused by operator admin"]);
        assert!(!watched.summary.has_ended());
        let news = watched.apply(message(&[2], &["resumed by operator admin"]), false);
        assert_eq!(news, News { rounds_from: 1, events: vec!["resumed by operator admin".into()] });
    }

    #[test]
    fn a_round_on_one_line() {
        assert_eq!(
            line(&report(3).into()),
            "round 3: loss 0.5000, accuracy 0.9666, 2 of 3 workers, 2.0 KiB up, 512 B down, 1.2 s"
        );
        let bare = views::Round { metrics: Default::default(), ..report(1).into() };
        assert_eq!(line(&bare), "round 1: 2 of 3 workers, 2.0 KiB up, 512 B down, 1.2 s");
    }
}
