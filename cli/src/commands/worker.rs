use std::time::Duration;

use proto::{
    convert,
    v1::{
        DrainWorkerRequest, ListWorkersRequest, RevokeWorkerRequest, ShowWorkerRequest, WorkerRun,
        WorkerSummary,
    },
};
use serde::Serialize;
use serde_json::json;

use crate::{
    args,
    error::CliError,
    output::{self, Format, Table},
    session::Session,
};

/// A worker as JSON.
#[derive(Debug, Serialize)]
struct Worker {
    name: String,
    state: String,
    device: String,
    datasets: Vec<String>,
    seen_ms_ago: u64,
    version: String,
}

/// One worker as JSON.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    worker: Worker,
    /// 0: it has not registered since the coordinator was started.
    protocol: u32,
    runs: Vec<InRun>,
}

/// What a worker is in an active run.
#[derive(Debug, Serialize)]
struct InRun {
    run: String,
    round: u32,
    state: String,
}

/// `conclave worker ...`.
pub(super) async fn run(session: &Session, format: Format, command: args::Worker) -> Result<(), CliError> {
    match command {
        args::Worker::Ls => list(session, format).await,
        args::Worker::Show { name } => {
            let request = ShowWorkerRequest { worker: name.to_string() };
            let answer = session.control().show_worker(request).await?.into_inner();
            let shown = Shown {
                worker: convert::required("summary", answer.summary)?.into(),
                protocol: answer.protocol,
                runs: answer.runs.into_iter().map(InRun::from).collect(),
            };
            output::item(format, &shown, describe)?;
            Ok(())
        }
        args::Worker::Drain { name, undo } => {
            let request = DrainWorkerRequest { worker: name.to_string(), undo };
            session.control().drain_worker(request).await?;
            let drained = json!({ "name": name.as_str(), "drained": !undo });
            output::item(format, &drained, |_| vec![drained_line(name.as_str(), !undo)])?;
            if !undo {
                output::note(&format!("make it available again with `conclave worker drain {name} --undo`"));
            }
            Ok(())
        }
        args::Worker::Revoke { name } => {
            session.control().revoke_worker(RevokeWorkerRequest { worker: name.to_string() }).await?;
            let revoked = json!({ "name": name.as_str(), "revoked": true });
            output::item(format, &revoked, |_| vec![revoked_line(name.as_str())])?;
            output::note(
                "to let its host train again, invite it under another name: `conclave invite worker NAME`",
            );
            Ok(())
        }
    }
}

async fn list(session: &Session, format: Format) -> Result<(), CliError> {
    let answer = session.control().list_workers(ListWorkersRequest {}).await?.into_inner();
    let workers: Vec<Worker> = answer.workers.into_iter().map(Worker::from).collect();
    output::list(format, &workers, table)?;
    if workers.is_empty() {
        output::note("no worker has connected yet; `conclave invite worker NAME` makes a token for one");
    }
    Ok(())
}

fn table(workers: &[Worker]) -> Table {
    let mut table = Table::new(&["NAME", "STATE", "DEVICE", "DATASETS", "SEEN", "VERSION"], &[]);
    for worker in workers {
        table.row([
            &worker.name,
            &worker.state,
            &worker.device,
            &worker.datasets.join(", "),
            &ago(worker.seen_ms_ago),
            &worker.version,
        ]);
    }
    table
}

fn describe(shown: &Shown) -> Vec<String> {
    let Shown { worker, protocol, runs } = shown;
    let protocol = match protocol {
        0 => "not registered since the coordinator was started".to_owned(),
        number => number.to_string(),
    };
    let mut table = Table::new(&["WORKER", &output::clean(&worker.name)], &[]);
    table.row(["state", &worker.state]);
    table.row(["device", &worker.device]);
    table.row(["datasets", &worker.datasets.join(", ")]);
    table.row(["version", &worker.version]);
    table.row(["protocol", &protocol]);
    table.row(["last seen", &ago(worker.seen_ms_ago)]);
    let mut lines = table.lines();
    if !runs.is_empty() {
        let mut table = Table::new(&["RUN", "ROUND", "STATE"], &[1]);
        for part in runs {
            table.row([&part.run, &part.round.to_string(), &part.state]);
        }
        lines.push(String::new());
        lines.extend(table.lines());
    }
    lines
}

fn drained_line(name: &str, drained: bool) -> String {
    if drained {
        format!("drained worker {name}; it may finish the work that it has and gets no new work")
    } else {
        format!("worker {name} is available again")
    }
}

fn revoked_line(name: &str) -> String {
    format!(
        "revoked worker {name}; its part in every run has ended and it cannot register again, which cannot be undone"
    )
}

/// How long ago, to the second.
fn ago(ms: u64) -> String {
    format!("{} ago", humantime::format_duration(Duration::from_secs(ms / 1000)))
}

impl From<WorkerSummary> for Worker {
    fn from(worker: WorkerSummary) -> Self {
        let WorkerSummary { name, state, device, datasets, seen_ms_ago, version } = worker;
        Self { name, state, device, datasets, seen_ms_ago, version }
    }
}

impl From<WorkerRun> for InRun {
    fn from(part: WorkerRun) -> Self {
        let WorkerRun { run, round, state } = part;
        Self { run, round, state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker() -> Worker {
        WorkerSummary {
            name: "hospital-a".into(),
            state: "working".into(),
            device: "cpu".into(),
            datasets: vec!["iris (150 rows)".into(), "x (1 rows)".into()],
            seen_ms_ago: 65_999,
            version: "0.1.0".into(),
        }
        .into()
    }

    fn part(run: &str, round: u32, state: &str) -> InRun {
        WorkerRun { run: run.into(), round, state: state.into() }.into()
    }

    #[test]
    fn workers_for_people() {
        assert_eq!(
            table(&[worker()]).lines(),
            [
                "NAME        STATE    DEVICE  DATASETS                     SEEN       VERSION",
                "hospital-a  working  cpu     iris (150 rows), x (1 rows)  1m 5s ago  0.1.0"
            ]
        );
    }

    #[test]
    fn one_worker_for_people() {
        let runs =
            vec![part("iris-1", 3, "working 40 %"), part("mnist-12", 17, "left out: 3 bad\x1b updates")];
        let mut shown = Shown { worker: worker(), protocol: 2, runs };
        assert_eq!(
            describe(&shown),
            [
                "WORKER     hospital-a",
                "state      working",
                "device     cpu",
                "datasets   iris (150 rows), x (1 rows)",
                "version    0.1.0",
                "protocol   2",
                "last seen  1m 5s ago",
                "",
                "RUN       ROUND  STATE",
                "iris-1        3  working 40 %",
                "mnist-12     17  left out: 3 bad\u{fffd} updates",
            ]
        );
        shown.protocol = 0;
        shown.runs.clear();
        let lines = describe(&shown);
        assert_eq!(lines[5], "protocol   not registered since the coordinator was started");
        assert_eq!(lines.len(), 7);
    }

    #[test]
    fn the_json_of_a_worker_is_a_contract() {
        let shown = Shown { worker: worker(), protocol: 2, runs: vec![part("iris-1", 3, "sent")] };
        assert_eq!(
            serde_json::to_string(&shown).unwrap(),
            r#"{"name":"hospital-a","state":"working","device":"cpu","datasets":["iris (150 rows)","x (1 rows)"],"seen_ms_ago":65999,"version":"0.1.0","protocol":2,"runs":[{"run":"iris-1","round":3,"state":"sent"}]}"#
        );
    }

    #[test]
    fn what_was_done_is_told() {
        assert_eq!(
            [drained_line("a", true), drained_line("a", false), revoked_line("a")],
            [
                "drained worker a; it may finish the work that it has and gets no new work",
                "worker a is available again",
                "revoked worker a; its part in every run has ended and it cannot register again, which cannot be undone",
            ]
        );
    }
}
