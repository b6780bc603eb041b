//! Random answers, honest and not, against the rules that hold whatever happens.

use std::collections::BTreeSet;

use params::Digest;
use proptest::prelude::*;
use round::{
    Millis, WorkKind,
    worker::{Call, Effect, Event, Failure, KEPT_MAX, Kept, LEAVE_MS, Machine, STOP_GRACE_MS, Work},
};

use crate::support::*;

/// One random input; what it means depends on what is under way.
#[derive(Clone, Debug)]
enum Op {
    /// The coordinator answers the call under way.
    Answer {
        run: u8,
        round: u32,
        lease: u64,
        evaluate: bool,
        nothing: bool,
    },
    /// The call under way fails.
    Fail(Failure),
    /// The job makes progress, or ends.
    Batch(u32),
    JobEnds {
        fails: bool,
    },
    /// The disk has written the oldest update that it was given.
    Written {
        fails: bool,
    },
    /// An answer to another call, or about other work.
    Stray {
        call: Call,
        round: u32,
        what: u8,
    },
    /// The process is killed and started again.
    Crash,
    Tick,
}

fn op() -> impl Strategy<Value = Op> {
    let failure = prop_oneof![
        4 => Just(Failure::Broken),
        3 => Just(Failure::Stale),
        2 => (0..3_000u64).prop_map(|retry_ms| Failure::Busy { retry_ms }),
        1 => Just(Failure::Lost),
        1 => Just(Failure::Impossible { reason: "no".into() }),
    ];
    prop_oneof![
        16 => (0..3u8, 1..4u32, 0..4u64, prop::bool::weighted(0.2), prop::bool::weighted(0.2)).prop_map(
            |(run, round, lease, evaluate, nothing)| Op::Answer { run, round, lease, evaluate, nothing }
        ),
        4 => failure.prop_map(Op::Fail),
        2 => (0..200u32).prop_map(Op::Batch),
        6 => prop::bool::weighted(0.1).prop_map(|fails| Op::JobEnds { fails }),
        6 => prop::bool::weighted(0.1).prop_map(|fails| Op::Written { fails }),
        2 => (0..60u64, 1..4u32, any::<u8>()).prop_map(|(call, round, what)| Op::Stray { call, round, what }),
        1 => Just(Op::Crash),
        3 => Just(Op::Tick),
    ]
}

/// What the effects so far amount to: the call, the job and the disk of a shell, and the rules.
#[derive(Default)]
struct Shell {
    call: Option<(Call, Effect)>,
    running: Option<(Digest, WorkKind)>,
    writing: Vec<Kept>,
    disk: Vec<Kept>,
    /// Results that this process holds: training for one of these again would be a waste.
    trained: BTreeSet<Digest>,
    ended: bool,
}

impl Shell {
    fn execute(&mut self, effects: &[Effect]) {
        for effect in effects {
            assert!(!self.ended, "nothing follows the end: {effect:?}");
            match effect {
                Effect::Connect { call }
                | Effect::Poll { call }
                | Effect::Fetch { call, .. }
                | Effect::TellProgress { call, .. }
                | Effect::SubmitEvaluation { call, .. }
                | Effect::Decline { call, .. } => self.calls(*call, effect),
                Effect::Submit { call, update, .. } => {
                    assert!(self.disk.contains(update), "offered before it is durable");
                    self.calls(*call, effect);
                }
                Effect::Leave { call } => {
                    self.call = None;
                    self.calls(*call, effect);
                }
                Effect::Train { key, .. } => {
                    assert!(!self.trained.contains(key), "trained twice");
                    assert_eq!(self.running.replace((*key, WorkKind::Train)), None, "one job at a time");
                }
                Effect::Evaluate { key, .. } => {
                    assert_eq!(self.running.replace((*key, WorkKind::Evaluate)), None, "one job at a time");
                }
                Effect::Cancel { key } => {
                    assert_eq!(self.running.take().map(|(running, _)| running), Some(*key));
                }
                Effect::Keep(kept) => {
                    assert!(self.trained.contains(&kept.key));
                    self.writing.push(kept.clone());
                }
                Effect::Forget { key } => {
                    assert!(self.trained.remove(key), "only what is there is deleted");
                    self.writing.retain(|kept| kept.key != *key);
                    self.disk.retain(|kept| kept.key != *key);
                }
                Effect::Exit(_) => self.ended = true,
            }
        }
    }

    fn calls(&mut self, call: Call, effect: &Effect) {
        assert_eq!(self.call.replace((call, effect.clone())), None, "one call at a time");
    }

    fn check(&self, machine: &Machine, now: Millis) {
        if let Some(deadline) = machine.next_deadline() {
            assert!(deadline > now, "nothing is overdue after a step");
        }
        assert!(self.disk.iter().eq(machine.kept()), "both know what is durable");
        let runs: BTreeSet<_> = self.disk.iter().map(|kept| &kept.run).collect();
        assert!(runs.len() == self.disk.len() && runs.len() <= KEPT_MAX);
        assert_eq!(machine.is_running(), !self.ended);
    }

    /// The job's result.
    fn job_ends(&mut self, fails: bool) -> Event {
        match self.running.take() {
            None => Event::Tick,
            Some((key, _)) if fails => work_failed(key),
            Some((key, WorkKind::Evaluate)) => Event::Measured { key },
            Some((key, WorkKind::Train)) => {
                self.trained.insert(key);
                Event::Trained { key, digest: payload(key), bytes: 40, examples: 10 }
            }
        }
    }

    fn written(&mut self, fails: bool) -> Event {
        if self.writing.is_empty() {
            return Event::Tick;
        }
        let kept = self.writing.remove(0);
        let key = kept.key;
        if fails {
            return work_failed(key);
        }
        self.disk.push(kept);
        Event::Kept { key }
    }

    /// The coordinator's answer to the call under way.
    fn answer(&mut self, work: Option<Work>, abandon: bool) -> Event {
        match self.call.take() {
            None => Event::Tick,
            Some((call, Effect::Connect { .. })) => connected(call),
            Some((call, Effect::Poll { .. })) => polled(call, work),
            Some((call, Effect::TellProgress { .. })) => told(call, abandon),
            Some((call, _)) => done(call),
        }
    }

    fn restarted(&mut self) -> Machine {
        let disk = std::mem::take(&mut self.disk);
        *self = Self { trained: disk.iter().map(|kept| kept.key).collect(), disk, ..Self::default() };
        Machine::new(7, self.disk.clone())
    }

    fn event(&mut self, op: &Op) -> Event {
        match *op {
            Op::Answer { run, round, lease, evaluate, nothing } => {
                let run = ["r", "s", "t"][usize::from(run)];
                let mut work = work_of(run, round, lease).unwrap();
                if evaluate {
                    work.kind = WorkKind::Evaluate;
                    work.key = key_of(&format!("candidate of {run}"), round);
                }
                self.answer((!nothing).then_some(work), nothing)
            }
            Op::Fail(ref failure) => match self.call.take() {
                Some((call, _)) => failed(call, failure.clone()),
                None => Event::Tick,
            },
            Op::Batch(percent) => match self.running {
                Some((key, _)) => Event::Progressed { key, percent },
                None => Event::Tick,
            },
            Op::JobEnds { fails } => self.job_ends(fails),
            Op::Written { fails } => self.written(fails),
            Op::Stray { call, round, what } => self.stray(call, round, what),
            Op::Crash | Op::Tick => Event::Tick,
        }
    }

    /// An event that no effect asked for, or that comes twice.
    fn stray(&self, call: Call, round: u32, what: u8) -> Event {
        let known = self.call.as_ref().is_some_and(|(known, _)| *known == call);
        let call = if known { call + 1_000 } else { call };
        let key = key_of("stranger", round);
        match what % 8 {
            0 => done(call),
            1 => polled(call, work(round, 9)),
            2 => connected(call),
            3 => failed(call, Failure::Fatal { reason: "no".into() }),
            4 => Event::Trained { key, digest: key, bytes: 1, examples: 1 },
            5 => Event::Kept { key },
            6 => work_failed(key),
            _ => told(call, true),
        }
    }
}

/// Everything works from here on: the work of a run must be offered and accepted, and in few steps.
fn settle(machine: &mut Machine, shell: &mut Shell, mut now: Millis) {
    let wanted = work_of("r", 9, 99);
    for _ in 0..100 {
        let submits = |effect: &Effect| matches!(effect, Effect::Submit { lease: 99, .. });
        let accepted = shell.call.as_ref().is_some_and(|(_, effect)| submits(effect));
        let event = if shell.running.is_some() {
            shell.job_ends(false)
        } else if !shell.writing.is_empty() {
            shell.written(false)
        } else if shell.call.is_some() {
            shell.answer(wanted.clone(), false)
        } else {
            now = now.max(machine.next_deadline().unwrap());
            Event::Tick
        };
        let effects = machine.step(now, event);
        shell.execute(&effects);
        shell.check(machine, now);
        if accepted {
            return;
        }
    }
    panic!("the work is never done: {machine:?}");
}

/// Nobody answers from here on: the process must end, and in time.
fn end(machine: &mut Machine, shell: &mut Shell, mut now: Millis) {
    let last = now + STOP_GRACE_MS + LEAVE_MS;
    let mut event = Event::Stop;
    while !shell.ended {
        let effects = machine.step(now, event);
        shell.execute(&effects);
        shell.check(machine, now);
        let Some(deadline) = machine.next_deadline() else { break };
        (now, event) = (deadline, Event::Tick);
    }
    assert!(shell.ended && now <= last, "it does not end in time: {machine:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rules_hold_and_the_process_works_on_and_can_always_end(
        ops in prop::collection::vec((op(), -2_000..3_000i64), 0..200),
    ) {
        let mut shell = Shell::default();
        let mut machine = shell.restarted();
        let (mut now, mut latest) = (0u64, 0);
        let mut log = Vec::new();
        let mut first = machine.clone();
        for (op, pass) in &ops {
            now = now.saturating_add_signed(*pass);
            latest = latest.max(now);
            let event = if matches!(op, Op::Crash) || shell.ended {
                machine = shell.restarted();
                first = machine.clone();
                log.clear();
                latest = now;
                Event::Start
            } else if machine.next_deadline().is_none() && shell.call.is_none() && shell.running.is_none() {
                Event::Start
            } else {
                shell.event(op)
            };
            let effects = machine.step(now, event.clone());
            shell.execute(&effects);
            shell.check(&machine, latest);
            log.push((now, event, effects));
        }

        for (now, event, effects) in log {
            prop_assert_eq!(first.step(now, event), effects);
        }
        prop_assert_eq!(&first, &machine);

        if shell.ended {
            machine = shell.restarted();
        }
        let effects = machine.step(latest, Event::Start);
        shell.execute(&effects);
        let (mut stopped, mut alone) = (machine.clone(), Shell {
            call: shell.call.clone(),
            running: shell.running,
            writing: shell.writing.clone(),
            disk: shell.disk.clone(),
            trained: shell.trained.clone(),
            ended: false,
        });
        end(&mut stopped, &mut alone, latest);
        settle(&mut machine, &mut shell, latest);
    }
}
