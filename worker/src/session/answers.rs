//! The answers of the coordinator in the words of the machine, and in those of the log.

use std::sync::Arc;

use params::{Digest, Name};
use proto::{
    error::ErrorCode,
    v1::{self, WorkKind},
};
use round::worker::{Call, Event, Failure, Work};
use service::dial::DialError;
use tonic::transport::Channel;

use super::{
    Shell,
    calls::{Answer, What},
};
use crate::{
    client::{CallError, Client},
    work::{Assignment, Impossible, WorkError},
};

impl<D> Shell<'_, D>
where
    D: AsyncFn() -> Result<Channel, DialError>,
{
    pub(super) fn answered(&mut self, call: Call, what: What, answer: Result<Answer, WorkError>) -> Event {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.failed(call, what, error),
        };
        match answer {
            Answer::Connected(client) => self.connected(call, client),
            Answer::Polled(work) => Event::Polled { call, work: work.map(|work| self.polled(work)) },
            Answer::Told { abandon } => {
                if abandon {
                    let (run, round) = self.present();
                    tracing::info!(%run, round, "the work is no longer wanted under this lease");
                }
                Event::Told { call, abandon }
            }
            Answer::Fetched(inputs, task) => {
                self.inputs = Some(inputs);
                match task {
                    Ok(task) => {
                        self.task = Some(task);
                        Event::Done { call }
                    }
                    Err(error) => self.failed(call, what, error),
                }
            }
            Answer::Accepted => {
                // It is on disk, should it be wanted again.
                self.update = None;
                let (run, round) = self.present();
                tracing::info!(%run, round, "update accepted");
                Event::Done { call }
            }
            Answer::Measured => {
                if let Some((_, measured)) = &self.measured {
                    let (examples, loss, correct) = (measured.examples, measured.loss, measured.correct);
                    let (run, round) = self.present();
                    tracing::info!(%run, round, examples, loss, correct, "candidate measured");
                }
                Event::Done { call }
            }
            Answer::Done => {
                if what == What::Leave {
                    tracing::info!("left");
                }
                Event::Done { call }
            }
        }
    }

    fn connected(&mut self, call: Call, client: Client) -> Event {
        let (session, protocol) = (client.session(), client.protocol());
        let lease_ms = u64::try_from(client.lease().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(lease_ms, protocol, "registered, waiting for work");
        self.client = Some(client);
        Event::Connected { call, session, lease_ms, protocol }
    }

    fn polled(&mut self, work: v1::Work) -> Work {
        let lease = work.lease;
        let work = Assignment::try_from(work).map(Arc::new);
        let known = match &work {
            Ok(work) => of(work),
            // To the machine it is work like any other; it fails when it is fetched.
            Err(_) => malformed(lease),
        };
        self.work = Some(work);
        known
    }

    fn failed(&mut self, call: Call, what: What, error: WorkError) -> Event {
        if what == What::Leave {
            let why = match &error {
                WorkError::Call(error) => error.to_string(),
                _ => String::new(),
            };
            tracing::info!("the coordinator was not told that this worker ends: {why}");
            return Event::Failed { call, failure: Failure::Broken };
        }
        let (run, round) = self.present();
        let work = match what {
            What::Work => format!("run={run} round={round}: "),
            _ => String::new(),
        };
        let failure = match error {
            WorkError::Lost => Failure::Lost,
            WorkError::Impossible(Impossible { reason, detail }) => {
                self.setback = Some(format!("{work}handing the work back: {detail}"));
                Failure::Impossible { reason }
            }
            WorkError::Call(error) => {
                let failure = meaning(&error);
                self.setback = Some(format!("{work}{}: {error}", saying(&failure, what)));
                if matches!(failure, Failure::Fatal { .. } | Failure::Impossible { .. }) {
                    self.refusal = Some(error);
                }
                failure
            }
        };
        Event::Failed { call, failure }
    }

    /// Run and round of the present work, for the log; that of malformed work is not known.
    fn present(&self) -> (&str, u32) {
        match &self.work {
            Some(Ok(work)) => (work.run.as_str(), work.round),
            Some(Err(_)) | None => ("?", 0),
        }
    }
}

fn of(work: &Assignment) -> Work {
    let kind = match work.kind {
        WorkKind::Evaluate => round::WorkKind::Evaluate,
        WorkKind::Train | WorkKind::Unspecified => round::WorkKind::Train,
    };
    let Assignment { ref run, round, lease, key, deadline_ms, .. } = *work;
    Work { run: run.clone(), round, lease, kind, key, deadline_ms }
}

fn malformed(lease: u64) -> Work {
    let run: Name = "malformed".parse().expect("it is a name");
    let key = Digest::of(&lease.to_le_bytes());
    Work { run, round: 0, lease, kind: round::WorkKind::Train, key, deadline_ms: 0 }
}

/// What to do about an error: the one place that decides it.
fn meaning(error: &CallError) -> Failure {
    let refusal = match error {
        CallError::Broken(_) => return Failure::Broken,
        CallError::Dial(error) => return Failure::Fatal { reason: error.to_string() },
        CallError::Refused(refusal) => refusal,
    };
    match refusal.code {
        ErrorCode::Stale | ErrorCode::NotFound => Failure::Stale,
        ErrorCode::Unauthenticated | ErrorCode::Forbidden | ErrorCode::Version => {
            Failure::Fatal { reason: refusal.to_string() }
        }
        ErrorCode::Invalid | ErrorCode::Conflict => {
            Failure::Impossible { reason: format!("the coordinator refused it: {refusal}") }
        }
        ErrorCode::Busy
        | ErrorCode::Unavailable
        | ErrorCode::Corrupt
        | ErrorCode::Internal
        | ErrorCode::Unspecified => {
            let wait = refusal.retry_after.unwrap_or_default();
            Failure::Busy { retry_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) }
        }
    }
}

fn saying(failure: &Failure, what: What) -> &'static str {
    match (failure, what) {
        (Failure::Broken, _) => "no connection",
        (Failure::Stale, What::Work) => "too late",
        (Failure::Stale, _) => "registering again",
        (Failure::Impossible { .. }, What::Work) => "handing the work back",
        (Failure::Busy { .. }, _) => "the coordinator does not take it now",
        _ => "refused",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proto::error::WireError;

    use super::*;

    #[test]
    fn every_refusal_says_what_to_do() {
        let of = |error: WireError| meaning(&CallError::Refused(error));
        let code = |code| of(WireError::new(code, "why"));
        let fatal = Failure::Fatal { reason: "why".into() };
        let impossible = Failure::Impossible { reason: "the coordinator refused it: why".into() };
        let busy = Failure::Busy { retry_ms: 0 };
        for (found, expected) in [
            (ErrorCode::Stale, &Failure::Stale),
            (ErrorCode::NotFound, &Failure::Stale),
            (ErrorCode::Forbidden, &fatal),
            (ErrorCode::Unauthenticated, &fatal),
            (ErrorCode::Version, &fatal),
            (ErrorCode::Invalid, &impossible),
            (ErrorCode::Conflict, &impossible),
            (ErrorCode::Busy, &busy),
            (ErrorCode::Unavailable, &busy),
            (ErrorCode::Corrupt, &busy),
            (ErrorCode::Internal, &busy),
        ] {
            assert_eq!(&code(found), expected, "{found:?}");
        }
        let later = WireError::new(ErrorCode::Busy, "full").retry_after(Duration::from_millis(300));
        assert_eq!(of(later), Failure::Busy { retry_ms: 300 });
        assert_eq!(meaning(&CallError::Broken(String::new())), Failure::Broken);
    }

    #[test]
    fn a_late_update_is_told_as_such() {
        assert_eq!(saying(&Failure::Stale, What::Work), "too late");
        assert_eq!(saying(&Failure::Stale, What::Poll), "registering again");
        assert_eq!(saying(&Failure::Broken, What::Connection), "no connection");
    }
}
