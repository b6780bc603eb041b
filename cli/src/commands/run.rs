use proto::{
    convert,
    v1::{
        ListRunsRequest, PauseRunRequest, ResumeRunRequest, ShowRunRequest, StartRoundsRequest,
        StopRunRequest,
    },
};
use serde_json::json;

use super::{
    events,
    start::{self, Prepared},
    views::{self, RunWithRounds},
    watch,
};
use crate::{
    args::{self, Run},
    error::CliError,
    output::{self, Format, Table},
    session::Session,
};

/// `conclave run ...`.
pub(super) async fn run(
    session: &Session,
    format: Format,
    command: Run,
    prepared: Option<Prepared>,
) -> Result<(), CliError> {
    match command {
        Run::Start { watch, .. } => {
            // Read for exactly this command.
            let Some(prepared) = prepared else { return Ok(()) };
            let run = start::start(session, prepared).await?;
            if watch {
                output::note(&format!("started run {run}"));
                return watch::run(session, format, &run).await;
            }
            output::item(format, &json!({ "run": run }), |_| vec![run.clone()])?;
            output::note(&format!("started; follow it with `conclave run watch {run}`"));
            Ok(())
        }
        Run::Ls => list(session, format).await,
        Run::Show { run, events: true } => events::run(session, format, run.as_str()).await,
        Run::Show { run, events: false } => show(session, format, run.as_str()).await,
        Run::Watch { run } => watch::run(session, format, run.as_str()).await,
        Run::Pause { run } => {
            session.control().pause_run(PauseRunRequest { run: run.to_string() }).await?;
            paused(format, run.as_str(), true)?;
            output::note(&format!(
                "go on with it by `conclave run resume {run}`, end it with `conclave run stop {run}`"
            ));
            Ok(())
        }
        Run::Resume { run } => {
            session.control().resume_run(ResumeRunRequest { run: run.to_string() }).await?;
            paused(format, run.as_str(), false)?;
            output::note(&format!("follow it with `conclave run watch {run}`"));
            Ok(())
        }
        Run::Stop { run } => {
            session.control().stop_run(StopRunRequest { run: run.to_string() }).await?;
            let stopped = json!({ "run": run.as_str(), "state": "stopped" });
            output::item(format, &stopped, |_| vec![format!("stopped run {run}; its versions stay")])?;
            Ok(())
        }
    }
}

/// `conclave round start`.
pub(super) async fn round(session: &Session, format: Format, command: args::Round) -> Result<(), CliError> {
    let args::Round::Start { run, count } = command;
    let request = StartRoundsRequest { run: run.to_string(), count };
    let rounds_planned = session.control().start_rounds(request).await?.into_inner().rounds_planned;
    let planned = json!({ "run": run.as_str(), "rounds_planned": rounds_planned });
    output::item(format, &planned, |_| {
        vec![format!("run {run} now has {rounds_planned} rounds to do in all")]
    })?;
    output::note(&format!("follow it with `conclave run watch {run}`"));
    Ok(())
}

/// Tells that a run was paused or resumed. Its state may still be that of the open round.
fn paused(format: Format, run: &str, paused: bool) -> std::io::Result<()> {
    output::item(format, &json!({ "run": run, "paused": paused }), |_| vec![paused_line(run, paused)])
}

fn paused_line(run: &str, paused: bool) -> String {
    if paused {
        format!("paused run {run}; the open round goes on, and no further one opens until it is resumed")
    } else {
        format!("resumed run {run}; rounds open again")
    }
}

async fn list(session: &Session, format: Format) -> Result<(), CliError> {
    let answer = session.control().list_runs(ListRunsRequest {}).await?.into_inner();
    let runs: Vec<views::Run> = answer.runs.into_iter().map(Into::into).collect();
    output::list(format, &runs, table)?;
    if runs.is_empty() {
        output::note("no run yet; `conclave run start JOB.toml` starts one");
    }
    Ok(())
}

fn table(runs: &[views::Run]) -> Table {
    let mut table = Table::new(&["RUN", "MODEL", "STATE", "ROUNDS", "STARTED", "CAUSE"], &[3]);
    for run in runs {
        table.row([
            &run.run,
            &run.model,
            &run.state,
            &format!("{}/{}", run.rounds_done, run.rounds_planned),
            &output::time(run.started_unix_ms),
            &output::cut(&run.cause, 60),
        ]);
    }
    table
}

async fn show(session: &Session, format: Format, run: &str) -> Result<(), CliError> {
    let answer = session.control().show_run(ShowRunRequest { run: run.to_owned() }).await?.into_inner();
    let summary: views::Run = convert::required("summary", answer.summary)?.into();
    let rounds = answer.rounds.into_iter().map(Into::into).collect();
    print(format, &summary, &summary.with(rounds))?;
    if summary.is_paused() {
        output::note(&format!("no further round opens until `conclave run resume {run}`"));
    }
    Ok(())
}

/// Prints a run with all its rounds.
pub(super) fn print(format: Format, summary: &views::Run, run: &RunWithRounds) -> std::io::Result<()> {
    match format {
        Format::Json => output::json(run),
        Format::Jsonl => run.rounds.iter().try_for_each(output::jsonl),
        Format::Table => {
            let mut lines = vec![summary.headline()];
            if !run.rounds.is_empty() {
                lines.extend(views::rounds_table(&run.rounds, false).lines());
            }
            output::lines(&lines)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_says_what_goes_on() {
        assert_eq!(
            [true, false].map(|paused| paused_line("iris-1", paused)),
            [
                "paused run iris-1; the open round goes on, and no further one opens until it is resumed",
                "resumed run iris-1; rounds open again"
            ]
        );
    }

    #[test]
    fn runs_for_people() {
        let run = views::Run {
            run: "iris-1".into(),
            model: "iris".into(),
            state: "training".into(),
            cause: String::new(),
            rounds_done: 3,
            rounds_planned: 20,
            started_unix_ms: 1_767_225_600_000,
        };
        let paused = views::Run { run: "iris-2".into(), state: "paused".into(), ..run.clone() };
        let early = views::Run {
            run: "iris-3".into(),
            state: "completed".into(),
            cause: "stopped early: test_loss did not improve in 5 rounds".into(),
            rounds_done: 12,
            ..run.clone()
        };
        assert_eq!(
            table(&[run, paused, early]).lines(),
            [
                "RUN     MODEL  STATE      ROUNDS  STARTED               CAUSE",
                "iris-1  iris   training     3/20  2026-01-01T00:00:00Z",
                "iris-2  iris   paused       3/20  2026-01-01T00:00:00Z",
                "iris-3  iris   completed   12/20  2026-01-01T00:00:00Z  stopped early: test_loss did not improve in 5 rounds"
            ]
        );
    }
}
