//! What the machine asks for, done in order; between any two effects the process may die.

use params::{Digest, Name};
use round::{Effect, Event, Note, Phase};

use super::{
    Commit, Coordinator, Item,
    answers::{finish, refuse, succeed},
    opened,
};
use crate::{
    disk::{Candidate, Entry, Version},
    env::{Env, Happening, Request},
    mutation::Mutation,
    scenario::{chance, digest},
};

/// The accumulator.
#[derive(Clone, Debug, Default)]
pub(super) struct Sum {
    counts: Vec<u32>,
    parts: Vec<(Name, Digest)>,
}

impl Coordinator {
    pub(super) fn execute_all(&mut self, env: &mut Env) {
        loop {
            let Some(process) = &mut self.process else { return };
            if process.syncing {
                return;
            }
            if let Some(commit) = process.committing.clone() {
                if self.disk.durable < commit.upto && env.mutation != Mutation::PublishBeforeDurable {
                    return self.sync(env);
                }
                if self.crashes(env, "the step after the commit") {
                    return;
                }
                self.committed(env, commit);
                continue;
            }
            let Some(item) = process.queue.pop_front() else { return };
            match item {
                Item::Finish { caller } => finish(env, &caller),
                Item::FinishOrder { at } => {
                    let order = self.disk.journal.get(at).map(|entry| entry.event.clone());
                    env.oracles.ordered(at, order);
                }
                Item::Effect { effect, upto, caller } => {
                    if self.crashes(env, name_of(&effect)) {
                        return;
                    }
                    if effect == Effect::Persist && !self.persisted(env, upto) {
                        if let Some(process) = &mut self.process {
                            process.queue.push_front(Item::Effect { effect, upto, caller });
                        }
                        return self.sync(env);
                    }
                    self.execute(env, effect, caller);
                }
            }
        }
    }

    fn persisted(&self, env: &Env, upto: usize) -> bool {
        self.disk.durable >= upto || matches!(env.mutation, Mutation::AcknowledgeBeforePersist)
    }

    /// Whether the process dies here.
    fn crashes(&mut self, env: &mut Env, before: &'static str) -> bool {
        let rate = env.scenario.faults.crash;
        let dies =
            env.crashes_left > 0 && env.now < env.scenario.faults_end && { chance(&mut env.rng, rate) };
        if dies {
            env.crashes_left -= 1;
            self.crash(env, before);
        }
        dies
    }

    fn sync(&mut self, env: &mut Env) {
        if let Some(process) = &mut self.process {
            process.syncing = true;
            let (boot, upto, wait) = (process.boot, self.disk.journal.len(), env.sync_time());
            env.after(wait, Happening::JournalSynced { boot, upto });
        }
    }

    fn execute(&mut self, env: &mut Env, effect: Effect, caller: Option<Request>) {
        let Some(process) = &mut self.process else { return };
        let hosts = env.scenario.hosts.len();
        match effect {
            Effect::OpenRound { .. } => process.sum = Some(Sum::new(hosts)),
            Effect::Fold { worker, digest, .. } => {
                if process.sum.is_none() && env.mutation == Mutation::None {
                    env.oracles.broken("S1", format!("an update of {worker} to fold while no round is open"));
                }
                let sum = process.sum.get_or_insert_with(|| Sum::new(hosts));
                sum.fold(env, worker, digest);
            }
            Effect::Persist => {}
            Effect::Acknowledge { worker, lease } => {
                env.oracles.acknowledged(&worker, lease);
                env.count("acknowledgements");
                caller.iter().for_each(|caller| succeed(env, caller));
            }
            Effect::KeepEvaluation { .. } => {}
            Effect::Reject { refusal, .. } => {
                env.count("refusals");
                caller.iter().for_each(|caller| refuse(env, caller, &refusal));
            }
            Effect::Aggregate { round } => self.aggregate(env, round),
            Effect::EvaluateCentrally { round } => {
                process.token += 1;
                let (boot, token, wait) = (process.boot, process.token, env.between(1, 500));
                env.after(wait, Happening::Evaluated { boot, token, round });
            }
            Effect::Publish { round } => self.publish(env, round),
            Effect::Discard { .. } => {
                process.sum = None;
                process.done = None;
                process.token += 1;
            }
            Effect::Tell(Note::AttemptFailed { .. }) => env.count("attempts failed"),
            Effect::Tell(_) => {}
            Effect::End(_) => env.count("ends"),
        }
    }

    fn aggregate(&mut self, env: &mut Env, round: u32) {
        let Some(process) = &mut self.process else { return };
        let base = process.machine.committed().base;
        let sum = process.sum.take().unwrap_or_else(|| Sum::new(env.scenario.hosts.len()));
        let candidate = sum.candidate(base);
        process.token += 1;
        if env.mutation == Mutation::CandidateBeforeDurable {
            process.done = Some(Event::Aggregated { round, candidate: candidate.digest });
        }
        process.making = Some((round, candidate));
        let (boot, token, wait) = (process.boot, process.token, env.sync_time() + env.between(1, 300));
        env.after(wait, Happening::Aggregated { boot, token });
    }

    /// Writes the commit record. The machine is told, and the version shown, once it is durable.
    fn publish(&mut self, env: &mut Env, round: u32) {
        let Some(process) = &mut self.process else { return };
        let machine = &process.machine;
        if (machine.phase(), machine.round()) != (&Phase::Publishing, round) {
            return;
        }
        let candidate = machine.candidate().and_then(|digest| self.disk.blobs.get(&digest).cloned());
        let Some(candidate) = candidate else {
            env.oracles.broken("S3", format!("round {round} has no candidate to publish"));
            return;
        };
        let now = machine.now().max(process.now(env));
        let event = Event::Published { round, better: env.scenario.better(round) };
        let mut after = machine.clone();
        let effects = after.step(now, event.clone());
        let opened = opened(&event, &effects);
        self.disk.journal.push(Entry { now, event: event.clone(), shadow: after.save(), opened });
        let version = Version { round, attempt: process.attempt, candidate };
        process.committing = Some(Commit { now, event, upto: self.disk.journal.len(), version });
    }

    fn committed(&mut self, env: &mut Env, commit: Commit) {
        let Some(process) = &mut self.process else { return };
        process.committing = None;
        let effects = process.machine.step(commit.now, commit.event.clone());
        env.oracles.shown(commit.version, &self.disk);
        env.count("rounds published");
        let (after, _) = self.watch(env, commit.now, &commit.event, &effects, true);
        let written = self.disk.journal.last().map(|entry| entry.shadow.clone());
        env.oracles.s4_replay_is_exact(&after, &written.unwrap_or_else(|| after.clone()));
        let (Some(process), upto) = (&mut self.process, self.disk.journal.len()) else { return };
        process.queue.extend(effects.into_iter().map(|effect| Item::Effect { effect, upto, caller: None }));
    }
}

impl Sum {
    fn new(hosts: usize) -> Self {
        Self { counts: vec![0; hosts], ..Self::default() }
    }

    /// Adds the one-hot vector of this worker.
    fn fold(&mut self, env: &Env, worker: Name, digest: Digest) {
        if let Some(index) = env.scenario.hosts.iter().position(|host| host.name == worker) {
            self.counts[index] += 1;
            self.parts.push((worker, digest));
        }
    }

    fn candidate(mut self, base: Digest) -> Candidate {
        self.parts.sort();
        let parts: Vec<String> = self.parts.iter().map(|(name, digest)| format!("{name} {digest}")).collect();
        let digest = digest(&["candidate", &base.to_string(), &parts.join(" ")]);
        Candidate { digest, counts: self.counts }
    }
}

/// For the report: crashes before each kind of effect.
fn name_of(effect: &Effect) -> &'static str {
    match effect {
        Effect::OpenRound { .. } => "OpenRound",
        Effect::Fold { .. } => "Fold",
        Effect::Persist => "Persist",
        Effect::Acknowledge { .. } => "Acknowledge",
        Effect::KeepEvaluation { .. } => "KeepEvaluation",
        Effect::Reject { .. } => "Reject",
        Effect::Aggregate { .. } => "Aggregate",
        Effect::EvaluateCentrally { .. } => "EvaluateCentrally",
        Effect::Publish { .. } => "Publish",
        Effect::Discard { .. } => "Discard",
        Effect::Tell(_) => "Tell",
        Effect::End(_) => "End",
    }
}
