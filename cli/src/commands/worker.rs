use std::time::Duration;

use proto::v1::{ListWorkersRequest, WorkerSummary};
use serde::Serialize;

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

/// Lists workers.
pub(super) async fn run(session: &Session, format: Format, command: args::Worker) -> Result<(), CliError> {
    let args::Worker::Ls = command;
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
        let ago = Duration::from_secs(worker.seen_ms_ago / 1000);
        table.row([
            &worker.name,
            &worker.state,
            &worker.device,
            &worker.datasets.join(", "),
            &format!("{} ago", humantime::format_duration(ago)),
            &worker.version,
        ]);
    }
    table
}

impl From<WorkerSummary> for Worker {
    fn from(worker: WorkerSummary) -> Self {
        let WorkerSummary { name, state, device, datasets, seen_ms_ago, version } = worker;
        Self { name, state, device, datasets, seen_ms_ago, version }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_for_people() {
        let worker = WorkerSummary {
            name: "hospital-a".into(),
            state: "idle".into(),
            device: "cpu".into(),
            datasets: vec!["iris (150 rows)".into(), "x (1 rows)".into()],
            seen_ms_ago: 65_999,
            version: "0.1.0".into(),
        };
        assert_eq!(
            table(&[worker.into()]).lines(),
            [
                "NAME        STATE  DEVICE  DATASETS                     SEEN        VERSION",
                "hospital-a  idle   cpu     iris (150 rows), x (1 rows)  1m 5s ago  0.1.0"
            ]
            .map(|line| line.replace("SEEN        ", "SEEN       "))
        );
    }
}
