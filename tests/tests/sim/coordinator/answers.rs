//! What workers ask for, and what they are told.

use params::Digest;
use round::{
    Assignment, Event, Millis, Refusal, WorkKind,
    worker::{self, Failure, Work},
};

use super::{Coordinator, Process};
use crate::{
    env::{Answer, Body, Env, Request},
    mutation::Mutation,
    oracles::Piece,
    scenario::digest,
};

impl Coordinator {
    pub(super) fn handle_request(&mut self, env: &mut Env, request: Request) {
        let Some(process) = &mut self.process else { return };
        let name = env.scenario.hosts[request.worker].name.clone();
        let session = match request.body {
            Body::Register => return self.register(env, request),
            Body::Poll { session }
            | Body::Fetch { session, .. }
            | Body::Progress { session, .. }
            | Body::Update { session, .. }
            | Body::Evaluation { session, .. }
            | Body::Decline { session, .. }
            | Body::Leave { session } => session,
        };
        if process.sessions.get(&name) != Some(&session) {
            return fail(env, &request, Failure::Stale);
        }
        process.seen.insert(name.clone());
        self.tell_seen(env);
        let Some(process) = &mut self.process else { return };
        let event = match request.body.clone() {
            Body::Register => return,
            Body::Poll { .. } => {
                let until = env.now + env.scenario.poll_ms;
                process.polls.insert(request.worker, (request, until));
                return;
            }
            Body::Fetch { lease, .. } => {
                let open = process.machine.assignment(&name).is_some_and(|work| work.lease == lease);
                if open {
                    succeed(env, &request)
                } else {
                    fail(env, &request, Failure::Stale)
                }
                return;
            }
            Body::Leave { .. } => {
                process.sessions.remove(&name);
                process.polls.remove(&request.worker);
                succeed(env, &request);
                return self.step(env, Event::WorkerLeft { worker: name, session }, None);
            }
            Body::Progress { lease, percent, .. } => Event::Progress { worker: name, lease, percent },
            Body::Update { lease, digest, examples, .. } => {
                Event::UpdateReceived { worker: name, lease, digest, examples }
            }
            Body::Evaluation { lease, .. } => Event::EvaluationReceived { worker: name, lease },
            Body::Decline { lease, reason, .. } => Event::Declined { worker: name, lease, reason },
        };
        self.step(env, event, Some(request));
    }

    fn register(&mut self, env: &mut Env, request: Request) {
        let host = env.scenario.hosts[request.worker].clone();
        if self.disk.revoked.contains(&host.name) {
            return fail(env, &request, Failure::Fatal { reason: "revoked".into() });
        }
        let Some(process) = &mut self.process else { return };
        let session = env.rng.bits();
        process.sessions.insert(host.name.clone(), session);
        end_poll(env, process, request.worker);
        let lease_ms = env.scenario.plan.lease_ms;
        let event = worker::Event::Connected { call: request.call, session, lease_ms, protocol: 2 };
        respond(env, &request, event, None);
        self.tell_seen(env);
        self.step(env, Event::WorkerJoined { worker: host.name, session, examples: host.rows }, None);
    }

    /// Tells who polls what to do, or that there is nothing.
    pub(super) fn answer_polls(&mut self, env: &mut Env) {
        let Some(process) = &mut self.process else { return };
        let idle = process.queue.is_empty() && process.committing.is_none();
        // With group commit no later than it must be: the opening of the attempt is durable.
        let opened = process.attempt < self.disk.durable || env.mutation == Mutation::TellBeforePersist;
        if !(idle || env.scenario.group_commit && opened) {
            return;
        }
        let machine = &process.machine;
        let now = (machine.now(), process.attempt);
        process.polls.retain(|worker, (request, until)| {
            let work = machine.assignment(&env.scenario.hosts[*worker].name);
            if work.is_none() && env.now < *until {
                return true;
            }
            hand_out(env, request, work, now);
            false
        });
    }
}

/// Another process registered, or none may: an open poll of the old session is refused.
pub(super) fn end_poll(env: &mut Env, process: &mut Process, worker: usize) {
    if let Some((request, _)) = process.polls.remove(&worker) {
        fail(env, &request, Failure::Stale);
    }
}

/// Answers a poll.
fn hand_out(env: &mut Env, request: &Request, work: Option<Assignment>, (now, attempt): (Millis, usize)) {
    let Some(work) = work else {
        return respond(env, request, worker::Event::Polled { call: request.call, work: None }, None);
    };
    let (worker, round, lease, kind) = (request.worker, work.round, work.lease, work.kind);
    let piece = Piece { worker, round, attempt, kind, model: work.model };
    env.oracles.s5_lease_names_one_work(lease, piece);
    let what = match kind {
        WorkKind::Train => "train",
        WorkKind::Evaluate => "evaluate",
    };
    let shard = work.shard.map_or("own".to_owned(), |shard| shard.to_string());
    let key = digest(&[what, &round.to_string(), &work.model.to_string(), &shard]);
    let deadline_ms = work.deadline.saturating_sub(now);
    let run = "r".parse().expect("a good name");
    let answer = Work { run, round, lease, kind, key, deadline_ms };
    let event = worker::Event::Polled { call: request.call, work: Some(answer) };
    respond(env, request, event, Some((key, work.examples_max)));
}

fn respond(env: &mut Env, to: &Request, event: worker::Event, weight: Option<(Digest, u64)>) {
    env.answer(Answer { worker: to.worker, process: to.process, call: to.call, event, weight });
}

pub(super) fn succeed(env: &mut Env, to: &Request) {
    respond(env, to, worker::Event::Done { call: to.call }, None);
}

fn fail(env: &mut Env, to: &Request, failure: Failure) {
    respond(env, to, worker::Event::Failed { call: to.call, failure }, None);
}

/// Some calls are answered by the end of their step.
pub(super) fn finish(env: &mut Env, to: &Request) {
    match to.body {
        Body::Progress { .. } => {
            respond(env, to, worker::Event::Told { call: to.call, abandon: false }, None);
        }
        Body::Decline { .. } => succeed(env, to),
        _ => {}
    }
}

pub(super) fn refuse(env: &mut Env, to: &Request, refusal: &Refusal) {
    match (&to.body, refusal) {
        (Body::Progress { .. }, _) => {
            respond(env, to, worker::Event::Told { call: to.call, abandon: true }, None);
        }
        (_, Refusal::Stale | Refusal::Duplicate) => fail(env, to, Failure::Stale),
        (_, Refusal::Weight { .. }) => {
            fail(env, to, Failure::Impossible { reason: refusal.to_string() });
        }
    }
}
