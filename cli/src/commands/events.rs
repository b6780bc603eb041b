use proto::v1::RunEventsRequest;

use super::views::{self, Event};
use crate::{
    error::CliError,
    output::{self, Format},
    session::Session,
};

/// `conclave run show --events`: lines of JSON as they arrive, anything else when all are here.
pub(super) async fn run(session: &Session, format: Format, run: &str) -> Result<(), CliError> {
    let request = RunEventsRequest { run: run.to_owned() };
    let mut messages = session.control().run_events(request).await?.into_inner();
    let mut events: Vec<Event> = Vec::new();
    let mut any = false;
    while let Some(message) = messages.message().await? {
        any = true;
        match format {
            Format::Jsonl => output::jsonl(&Event::from(message))?,
            Format::Table | Format::Json => events.push(message.into()),
        }
    }
    output::list(format, &events, views::events_table)?;
    if !any {
        output::note(&format!("no event yet; follow the run with `conclave run watch {run}`"));
    }
    Ok(())
}
