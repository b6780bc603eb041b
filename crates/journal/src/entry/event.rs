//! Steps of a machine as they are on disk.

use params::Name;
use round::{Event, Session};

use super::{Aside, EntryError, Step, digest, name};

pub(super) fn store(step: &Step) -> stored::Step {
    let aside = match &step.aside {
        Aside::None => None,
        Aside::Trained { train_loss, examples } => {
            Some(stored::AsideKind::Trained(stored::Trained { train_loss: *train_loss, examples: *examples }))
        }
        Aside::Measured { loss, correct, examples } => Some(stored::AsideKind::Measured(stored::Measured {
            loss: *loss,
            correct: *correct,
            examples: *examples,
        })),
        Aside::Candidate { weights_bytes, optimizer } => {
            let (digest, bytes) = optimizer
                .map_or_else(Default::default, |(digest, bytes)| (digest.as_bytes().to_vec(), bytes));
            Some(stored::AsideKind::Candidate(stored::Candidate {
                weights_bytes: *weights_bytes,
                optimizer: digest,
                optimizer_bytes: bytes,
            }))
        }
    };
    stored::Step { run: step.run.to_string(), now: step.now, aside, event: Some(store_event(&step.event)) }
}

pub(super) fn load(step: stored::Step) -> Result<Step, EntryError> {
    let aside = match step.aside {
        None => Aside::None,
        Some(stored::AsideKind::Trained(t)) => {
            Aside::Trained { train_loss: t.train_loss, examples: t.examples }
        }
        Some(stored::AsideKind::Measured(m)) => {
            Aside::Measured { loss: m.loss, correct: m.correct, examples: m.examples }
        }
        Some(stored::AsideKind::Candidate(c)) => Aside::Candidate {
            weights_bytes: c.weights_bytes,
            optimizer: match c.optimizer.is_empty() {
                true => None,
                false => Some((digest("optimizer", &c.optimizer)?, c.optimizer_bytes)),
            },
        },
    };
    let event = step.event.ok_or_else(|| EntryError::missing("event"))?;
    Ok(Step { run: name("run", &step.run)?, now: step.now, event: load_event(event)?, aside })
}

fn store_event(event: &Event) -> stored::EventKind {
    use stored::EventKind as Kind;
    let worker = |worker: &Name| stored::Worker { worker: worker.to_string(), ..Default::default() };
    let work = |name: &Name, lease: u64| stored::Worker { lease, ..worker(name) };
    let round = |round: u32| stored::Round { round, ..Default::default() };
    let text = |text: &str| stored::Text { text: text.to_owned() };
    match event {
        Event::Tick => Kind::Tick(stored::Nothing {}),
        Event::WorkerJoined { worker: w, session, examples } => {
            Kind::WorkerJoined(stored::Worker { session: *session, offered: *examples, ..worker(w) })
        }
        Event::WorkersSeen { workers } => Kind::WorkersSeen(sessions(workers)),
        Event::WorkersSilent { workers } => Kind::WorkersSilent(sessions(workers)),
        Event::WorkerLeft { worker: w, session } => {
            Kind::WorkerLeft(stored::Worker { session: *session, ..worker(w) })
        }
        Event::WorkerDrained { worker: w, drained } => {
            Kind::WorkerDrained(stored::Worker { drained: *drained, ..worker(w) })
        }
        Event::WorkerRevoked { worker: w } => Kind::WorkerRevoked(worker(w)),
        Event::Progress { worker: w, lease, percent } => {
            Kind::Progress(stored::Worker { examples: u64::from(*percent), ..work(w, *lease) })
        }
        Event::UpdateReceived { worker: w, lease, digest, examples } => {
            Kind::UpdateReceived(stored::Worker {
                digest: digest.as_bytes().to_vec(),
                examples: *examples,
                ..work(w, *lease)
            })
        }
        Event::EvaluationReceived { worker: w, lease } => Kind::EvaluationReceived(work(w, *lease)),
        Event::Declined { worker: w, lease, reason } => {
            Kind::Declined(stored::Worker { reason: reason.clone(), ..work(w, *lease) })
        }
        Event::Aggregated { round: r, candidate } => {
            Kind::Aggregated(stored::Round { candidate: candidate.as_bytes().to_vec(), ..round(*r) })
        }
        Event::EvaluatedCentrally { round: r } => Kind::EvaluatedCentrally(round(*r)),
        Event::Published { round: r, better } => {
            Kind::Published(stored::Round { better: *better, ..round(*r) })
        }
        Event::Failed { reason } => Kind::Failed(text(reason)),
        Event::Pause { reason } => Kind::Pause(text(reason)),
        Event::Resume => Kind::Resume(stored::Nothing {}),
        Event::Stop { reason } => Kind::Stop(text(reason)),
        Event::AddRounds { count } => Kind::AddRounds(*count),
        Event::Restarted { lease_base } => Kind::Restarted(*lease_base),
    }
}

fn load_event(event: stored::EventKind) -> Result<Event, EntryError> {
    use stored::EventKind as Kind;
    let who = |w: &stored::Worker| name("worker", &w.worker);
    Ok(match event {
        Kind::Tick(_) => Event::Tick,
        Kind::WorkerJoined(w) => {
            Event::WorkerJoined { worker: who(&w)?, session: w.session, examples: w.offered }
        }
        Kind::WorkersSeen(s) => Event::WorkersSeen { workers: load_sessions(s)? },
        Kind::WorkersSilent(s) => Event::WorkersSilent { workers: load_sessions(s)? },
        Kind::WorkerLeft(w) => Event::WorkerLeft { worker: who(&w)?, session: w.session },
        Kind::WorkerDrained(w) => Event::WorkerDrained { worker: who(&w)?, drained: w.drained },
        Kind::WorkerRevoked(w) => Event::WorkerRevoked { worker: who(&w)? },
        Kind::Progress(w) => Event::Progress {
            worker: who(&w)?,
            lease: w.lease,
            percent: u32::try_from(w.examples).map_err(|e| EntryError::field("percent", e))?,
        },
        Kind::UpdateReceived(w) => Event::UpdateReceived {
            worker: who(&w)?,
            lease: w.lease,
            digest: digest("digest", &w.digest)?,
            examples: w.examples,
        },
        Kind::EvaluationReceived(w) => Event::EvaluationReceived { worker: who(&w)?, lease: w.lease },
        Kind::Declined(w) => Event::Declined { worker: who(&w)?, lease: w.lease, reason: w.reason },
        Kind::Aggregated(r) => {
            Event::Aggregated { round: r.round, candidate: digest("candidate", &r.candidate)? }
        }
        Kind::EvaluatedCentrally(r) => Event::EvaluatedCentrally { round: r.round },
        Kind::Published(r) => Event::Published { round: r.round, better: r.better },
        Kind::Failed(t) => Event::Failed { reason: t.text },
        Kind::Pause(t) => Event::Pause { reason: t.text },
        Kind::Resume(_) => Event::Resume,
        Kind::Stop(t) => Event::Stop { reason: t.text },
        Kind::AddRounds(count) => Event::AddRounds { count },
        Kind::Restarted(lease_base) => Event::Restarted { lease_base },
    })
}

fn sessions(workers: &[(Name, Session)]) -> stored::Sessions {
    let (workers, sessions) = workers.iter().map(|(name, session)| (name.to_string(), *session)).unzip();
    stored::Sessions { workers, sessions }
}

fn load_sessions(stored: stored::Sessions) -> Result<Vec<(Name, Session)>, EntryError> {
    if stored.workers.len() != stored.sessions.len() {
        let (workers, sessions) = (stored.workers.len(), stored.sessions.len());
        return Err(EntryError::field("sessions", format!("{sessions} sessions for {workers} workers")));
    }
    let pair = |(text, session): (&String, &Session)| Ok((name("worker", text)?, *session));
    stored.workers.iter().zip(&stored.sessions).map(pair).collect()
}

pub(super) mod stored {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(in crate::entry) struct Step {
        #[prost(string, tag = "1")]
        pub(in crate::entry) run: String,
        #[prost(uint64, tag = "2")]
        pub(in crate::entry) now: u64,
        #[prost(oneof = "AsideKind", tags = "3, 4, 5")]
        pub(in crate::entry) aside: Option<AsideKind>,
        #[prost(
            oneof = "EventKind",
            tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29"
        )]
        pub(in crate::entry) event: Option<EventKind>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(in crate::entry) enum AsideKind {
        #[prost(message, tag = "3")]
        Trained(Trained),
        #[prost(message, tag = "4")]
        Measured(Measured),
        #[prost(message, tag = "5")]
        Candidate(Candidate),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(in crate::entry) struct Trained {
        #[prost(double, tag = "1")]
        pub(in crate::entry) train_loss: f64,
        #[prost(uint64, tag = "2")]
        pub(in crate::entry) examples: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(in crate::entry) struct Measured {
        #[prost(double, tag = "1")]
        pub(in crate::entry) loss: f64,
        #[prost(uint64, tag = "2")]
        pub(in crate::entry) correct: u64,
        #[prost(uint64, tag = "3")]
        pub(in crate::entry) examples: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(in crate::entry) struct Candidate {
        #[prost(uint64, tag = "1")]
        pub(in crate::entry) weights_bytes: u64,
        #[prost(bytes = "vec", tag = "2")]
        pub(in crate::entry) optimizer: Vec<u8>,
        #[prost(uint64, tag = "3")]
        pub(in crate::entry) optimizer_bytes: u64,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(in crate::entry) enum EventKind {
        #[prost(message, tag = "10")]
        Tick(Nothing),
        #[prost(message, tag = "11")]
        WorkerJoined(Worker),
        #[prost(message, tag = "12")]
        WorkersSeen(Sessions),
        #[prost(message, tag = "13")]
        WorkersSilent(Sessions),
        #[prost(message, tag = "14")]
        WorkerLeft(Worker),
        #[prost(message, tag = "15")]
        WorkerDrained(Worker),
        #[prost(message, tag = "16")]
        WorkerRevoked(Worker),
        #[prost(message, tag = "17")]
        Progress(Worker),
        #[prost(message, tag = "18")]
        UpdateReceived(Worker),
        #[prost(message, tag = "19")]
        EvaluationReceived(Worker),
        #[prost(message, tag = "20")]
        Declined(Worker),
        #[prost(message, tag = "21")]
        Aggregated(Round),
        #[prost(message, tag = "22")]
        EvaluatedCentrally(Round),
        #[prost(message, tag = "23")]
        Published(Round),
        #[prost(message, tag = "24")]
        Failed(Text),
        #[prost(message, tag = "25")]
        Pause(Text),
        #[prost(message, tag = "26")]
        Resume(Nothing),
        #[prost(message, tag = "27")]
        Stop(Text),
        #[prost(uint32, tag = "28")]
        AddRounds(u32),
        #[prost(uint64, tag = "29")]
        Restarted(u64),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(in crate::entry) struct Nothing {}

    #[derive(Clone, PartialEq, prost::Message)]
    pub(in crate::entry) struct Worker {
        #[prost(string, tag = "1")]
        pub(in crate::entry) worker: String,
        #[prost(uint64, tag = "2")]
        pub(in crate::entry) session: u64,
        #[prost(fixed64, tag = "3")]
        pub(in crate::entry) lease: u64,
        #[prost(bytes = "vec", tag = "4")]
        pub(in crate::entry) digest: Vec<u8>,
        #[prost(uint64, tag = "5")]
        pub(in crate::entry) examples: u64,
        #[prost(uint64, optional, tag = "6")]
        pub(in crate::entry) offered: Option<u64>,
        #[prost(bool, tag = "7")]
        pub(in crate::entry) drained: bool,
        #[prost(string, tag = "8")]
        pub(in crate::entry) reason: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(in crate::entry) struct Sessions {
        #[prost(string, repeated, tag = "1")]
        pub(in crate::entry) workers: Vec<String>,
        #[prost(fixed64, repeated, tag = "2")]
        pub(in crate::entry) sessions: Vec<u64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(in crate::entry) struct Round {
        #[prost(uint32, tag = "1")]
        pub(in crate::entry) round: u32,
        #[prost(bytes = "vec", tag = "2")]
        pub(in crate::entry) candidate: Vec<u8>,
        #[prost(bool, tag = "3")]
        pub(in crate::entry) better: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(in crate::entry) struct Text {
        #[prost(string, tag = "1")]
        pub(in crate::entry) text: String,
    }
}
