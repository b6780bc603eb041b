//! Machines in a snapshot as they are on disk.

use std::collections::BTreeMap;

use params::Name;
use round::{
    Accepted, Committed, DataPlan, Evaluation, MemberState, Outcome, Phase, Plan, Saved, SavedMember,
    SavedWorker,
};

use super::{EntryError, digest, name};

pub(super) fn store(run: &Name, saved: &Saved, asides: &[u8]) -> stored::SavedRun {
    let (outcome, cause) = store_outcome(&saved.phase);
    stored::SavedRun {
        run: run.to_string(),
        plan: Some(store_plan(&saved.plan)),
        committed_round: saved.committed.round,
        base: saved.committed.base.as_bytes().to_vec(),
        shards: saved.committed.shards.iter().map(|(name, shard)| (name.to_string(), *shard)).collect(),
        phase: phase_number(&saved.phase),
        outcome,
        cause,
        now: saved.now,
        lease_next: saved.lease_next,
        attempt: saved.attempt,
        first: saved.first,
        workers: saved.workers.iter().map(|(name, w)| (name.to_string(), store_worker(w))).collect(),
        short_since: saved.short_since,
        enough_since: saved.enough_since,
        declined: saved.declined,
        paused: saved.paused.clone(),
        members: saved.members.iter().map(|(name, m)| (name.to_string(), store_member(m))).collect(),
        deadline: saved.deadline,
        losses: saved.losses.iter().map(|(name, why)| (name.to_string(), why.clone())).collect(),
        candidate: saved.candidate.map(|digest| digest.as_bytes().to_vec()),
        accepted: Some(store_accepted(&saved.accepted)),
        owed: saved.owed.iter().map(|(name, d)| (name.to_string(), d.as_bytes().to_vec())).collect(),
        accepted_before: Some(store_accepted(&saved.accepted_before)),
        stop: saved.stop.clone(),
        unimproved: saved.unimproved,
        asides: asides.to_vec(),
        closed: saved.closed,
    }
}

pub(super) fn load(run: stored::SavedRun) -> Result<(Name, Box<Saved>, Vec<u8>), EntryError> {
    let missing = EntryError::missing;
    let phase = load_phase(run.phase, run.outcome, &run.cause)?;
    let saved = Saved {
        plan: load_plan(run.plan.ok_or_else(|| missing("plan"))?)?,
        committed: Committed {
            round: run.committed_round,
            base: digest("base", &run.base)?,
            shards: named(run.shards, Ok)?,
        },
        phase,
        now: run.now,
        lease_next: run.lease_next,
        attempt: run.attempt,
        first: run.first,
        workers: named(run.workers, |w| Ok(load_worker(w)))?,
        short_since: run.short_since,
        enough_since: run.enough_since,
        declined: run.declined,
        paused: run.paused,
        members: named(run.members, load_member)?,
        closed: run.closed,
        deadline: run.deadline,
        losses: named(run.losses, Ok)?,
        candidate: run.candidate.map(|bytes| digest("candidate", &bytes)).transpose()?,
        accepted: load_accepted(run.accepted.ok_or_else(|| missing("accepted"))?)?,
        owed: named(run.owed, |bytes| digest("owed", &bytes))?,
        accepted_before: load_accepted(run.accepted_before.ok_or_else(|| missing("accepted_before"))?)?,
        stop: run.stop,
        unimproved: run.unimproved,
    };
    Ok((name("run", &run.run)?, Box::new(saved), run.asides))
}

fn named<T, U>(
    map: BTreeMap<String, T>,
    load: impl Fn(T) -> Result<U, EntryError>,
) -> Result<BTreeMap<Name, U>, EntryError> {
    map.into_iter().map(|(text, value)| Ok((name("worker", &text)?, load(value)?))).collect()
}

fn store_plan(plan: &Plan) -> stored::Plan {
    let (hosted, shards) = match &plan.data {
        DataPlan::Hosted { shards } => (true, shards.clone()),
        DataPlan::Private => (false, Vec::new()),
    };
    stored::Plan {
        seed: plan.seed,
        rounds: plan.rounds,
        cohort_min: plan.cohort_min,
        cohort_max: plan.cohort_max,
        cohort_select: plan.cohort_select,
        deadline_ms: plan.deadline_ms,
        lease_ms: plan.lease_ms,
        gather_ms: plan.gather_ms,
        wait_ms: plan.wait_ms,
        attempts_max: plan.attempts_max,
        hosted,
        shards,
        evaluation: match plan.evaluation {
            Evaluation::None => 0,
            Evaluation::Central => 1,
            Evaluation::Workers => 2,
        },
        patience: plan.patience,
    }
}

fn load_plan(plan: stored::Plan) -> Result<Plan, EntryError> {
    Ok(Plan {
        seed: plan.seed,
        rounds: plan.rounds,
        cohort_min: plan.cohort_min,
        cohort_max: plan.cohort_max,
        cohort_select: plan.cohort_select,
        deadline_ms: plan.deadline_ms,
        lease_ms: plan.lease_ms,
        gather_ms: plan.gather_ms,
        wait_ms: plan.wait_ms,
        attempts_max: plan.attempts_max,
        data: match plan.hosted {
            true => DataPlan::Hosted { shards: plan.shards },
            false => DataPlan::Private,
        },
        evaluation: match plan.evaluation {
            0 => Evaluation::None,
            1 => Evaluation::Central,
            2 => Evaluation::Workers,
            other => return Err(EntryError::field("evaluation", other)),
        },
        patience: plan.patience,
    })
}

fn phase_number(phase: &Phase) -> u32 {
    match phase {
        Phase::Gathering => 0,
        Phase::Training => 1,
        Phase::Aggregating => 2,
        Phase::Evaluating => 3,
        Phase::Publishing => 4,
        Phase::Ended(_) => 5,
    }
}

/// An outcome as its number and cause; one that stopped early keeps its count as text.
fn store_outcome(phase: &Phase) -> (u32, String) {
    match phase {
        Phase::Ended(Outcome::Completed) => (1, String::new()),
        Phase::Ended(Outcome::StoppedEarly { unimproved }) => (2, unimproved.to_string()),
        Phase::Ended(Outcome::Failed { cause }) => (3, cause.clone()),
        Phase::Ended(Outcome::Stopped { cause }) => (4, cause.clone()),
        _ => (0, String::new()),
    }
}

fn load_phase(phase: u32, outcome: u32, cause: &str) -> Result<Phase, EntryError> {
    Ok(match (phase, outcome) {
        (0, _) => Phase::Gathering,
        (1, _) => Phase::Training,
        (2, _) => Phase::Aggregating,
        (3, _) => Phase::Evaluating,
        (4, _) => Phase::Publishing,
        (5, 1) => Phase::Ended(Outcome::Completed),
        (5, 2) => {
            let unimproved = cause.parse().map_err(|e| EntryError::field("unimproved", e))?;
            Phase::Ended(Outcome::StoppedEarly { unimproved })
        }
        (5, 3) => Phase::Ended(Outcome::Failed { cause: cause.to_owned() }),
        (5, 4) => Phase::Ended(Outcome::Stopped { cause: cause.to_owned() }),
        (other, _) => return Err(EntryError::field("phase", other)),
    })
}

fn store_worker(worker: &SavedWorker) -> stored::SavedWorker {
    stored::SavedWorker {
        session: worker.session,
        examples: worker.examples,
        present: worker.present,
        excluded: worker.excluded.clone(),
        drained: worker.drained,
        revoked: worker.revoked,
    }
}

fn load_worker(worker: stored::SavedWorker) -> SavedWorker {
    SavedWorker {
        session: worker.session,
        examples: worker.examples,
        present: worker.present,
        excluded: worker.excluded,
        drained: worker.drained,
        revoked: worker.revoked,
    }
}

fn store_member(member: &SavedMember) -> stored::SavedMember {
    let state = match member.state {
        MemberState::Working { .. } => 0,
        MemberState::Done => 1,
        MemberState::Lost => 2,
    };
    let (lease, session, examples_max) = (member.lease, member.session, member.examples_max);
    stored::SavedMember { lease, session, state, examples_max }
}

fn load_member(member: stored::SavedMember) -> Result<SavedMember, EntryError> {
    let state = match member.state {
        0 => MemberState::Working { percent: 0 },
        1 => MemberState::Done,
        2 => MemberState::Lost,
        other => return Err(EntryError::field("state", other)),
    };
    let (lease, session, examples_max) = (member.lease, member.session, member.examples_max);
    Ok(SavedMember { lease, session, state, examples_max })
}

fn store_accepted(accepted: &Accepted) -> stored::Accepted {
    let update = |(name, (lease, digest)): (&Name, &(u64, params::Digest))| {
        let update = stored::AcceptedUpdate { lease: *lease, digest: digest.as_bytes().to_vec() };
        (name.to_string(), update)
    };
    stored::Accepted {
        updates: accepted.updates.iter().map(update).collect(),
        evaluations: accepted.evaluations.iter().map(|(name, lease)| (name.to_string(), *lease)).collect(),
    }
}

fn load_accepted(accepted: stored::Accepted) -> Result<Accepted, EntryError> {
    Ok(Accepted {
        updates: named(accepted.updates, |u| Ok((u.lease, digest("update", &u.digest)?)))?,
        evaluations: named(accepted.evaluations, Ok)?,
    })
}

pub(super) mod stored {
    use std::collections::BTreeMap;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(in crate::entry) struct SavedRun {
        #[prost(string, tag = "1")]
        pub(in crate::entry) run: String,
        #[prost(message, optional, tag = "2")]
        pub(in crate::entry) plan: Option<Plan>,
        #[prost(uint32, tag = "3")]
        pub(in crate::entry) committed_round: u32,
        #[prost(bytes = "vec", tag = "4")]
        pub(in crate::entry) base: Vec<u8>,
        #[prost(btree_map = "string, uint32", tag = "5")]
        pub(in crate::entry) shards: BTreeMap<String, u32>,
        #[prost(uint32, tag = "6")]
        pub(in crate::entry) phase: u32,
        #[prost(uint32, tag = "7")]
        pub(in crate::entry) outcome: u32,
        #[prost(string, tag = "8")]
        pub(in crate::entry) cause: String,
        #[prost(uint64, tag = "9")]
        pub(in crate::entry) now: u64,
        #[prost(fixed64, tag = "10")]
        pub(in crate::entry) lease_next: u64,
        #[prost(uint32, tag = "11")]
        pub(in crate::entry) attempt: u32,
        #[prost(bool, tag = "12")]
        pub(in crate::entry) first: bool,
        #[prost(btree_map = "string, message", tag = "13")]
        pub(in crate::entry) workers: BTreeMap<String, SavedWorker>,
        #[prost(uint64, optional, tag = "14")]
        pub(in crate::entry) short_since: Option<u64>,
        #[prost(uint64, optional, tag = "15")]
        pub(in crate::entry) enough_since: Option<u64>,
        #[prost(bool, tag = "16")]
        pub(in crate::entry) declined: bool,
        #[prost(string, optional, tag = "17")]
        pub(in crate::entry) paused: Option<String>,
        #[prost(btree_map = "string, message", tag = "18")]
        pub(in crate::entry) members: BTreeMap<String, SavedMember>,
        #[prost(uint64, tag = "19")]
        pub(in crate::entry) deadline: u64,
        #[prost(btree_map = "string, string", tag = "20")]
        pub(in crate::entry) losses: BTreeMap<String, String>,
        #[prost(bytes = "vec", optional, tag = "21")]
        pub(in crate::entry) candidate: Option<Vec<u8>>,
        #[prost(message, optional, tag = "22")]
        pub(in crate::entry) accepted: Option<Accepted>,
        #[prost(btree_map = "string, bytes", tag = "23")]
        pub(in crate::entry) owed: BTreeMap<String, Vec<u8>>,
        #[prost(message, optional, tag = "24")]
        pub(in crate::entry) accepted_before: Option<Accepted>,
        #[prost(string, optional, tag = "25")]
        pub(in crate::entry) stop: Option<String>,
        #[prost(uint32, tag = "26")]
        pub(in crate::entry) unimproved: u32,
        #[prost(bytes = "vec", tag = "27")]
        pub(in crate::entry) asides: Vec<u8>,
        #[prost(bool, tag = "28")]
        pub(in crate::entry) closed: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(in crate::entry) struct Plan {
        #[prost(uint64, tag = "1")]
        pub(in crate::entry) seed: u64,
        #[prost(uint32, tag = "2")]
        pub(in crate::entry) rounds: u32,
        #[prost(uint32, tag = "3")]
        pub(in crate::entry) cohort_min: u32,
        #[prost(uint32, tag = "4")]
        pub(in crate::entry) cohort_max: u32,
        #[prost(uint32, tag = "5")]
        pub(in crate::entry) cohort_select: u32,
        #[prost(uint64, tag = "6")]
        pub(in crate::entry) deadline_ms: u64,
        #[prost(uint64, tag = "7")]
        pub(in crate::entry) lease_ms: u64,
        #[prost(uint64, tag = "8")]
        pub(in crate::entry) gather_ms: u64,
        #[prost(uint64, tag = "9")]
        pub(in crate::entry) wait_ms: u64,
        #[prost(uint32, tag = "10")]
        pub(in crate::entry) attempts_max: u32,
        #[prost(bool, tag = "11")]
        pub(in crate::entry) hosted: bool,
        #[prost(uint64, repeated, tag = "12")]
        pub(in crate::entry) shards: Vec<u64>,
        #[prost(uint32, tag = "13")]
        pub(in crate::entry) evaluation: u32,
        #[prost(uint32, optional, tag = "14")]
        pub(in crate::entry) patience: Option<u32>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(in crate::entry) struct SavedWorker {
        #[prost(fixed64, optional, tag = "1")]
        pub(in crate::entry) session: Option<u64>,
        #[prost(uint64, optional, tag = "2")]
        pub(in crate::entry) examples: Option<u64>,
        #[prost(bool, tag = "3")]
        pub(in crate::entry) present: bool,
        #[prost(string, optional, tag = "4")]
        pub(in crate::entry) excluded: Option<String>,
        #[prost(bool, tag = "5")]
        pub(in crate::entry) drained: bool,
        #[prost(bool, tag = "6")]
        pub(in crate::entry) revoked: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(in crate::entry) struct SavedMember {
        #[prost(fixed64, tag = "1")]
        pub(in crate::entry) lease: u64,
        #[prost(fixed64, tag = "2")]
        pub(in crate::entry) session: u64,
        #[prost(uint32, tag = "3")]
        pub(in crate::entry) state: u32,
        #[prost(uint64, tag = "4")]
        pub(in crate::entry) examples_max: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(in crate::entry) struct Accepted {
        #[prost(btree_map = "string, message", tag = "1")]
        pub(in crate::entry) updates: BTreeMap<String, AcceptedUpdate>,
        #[prost(btree_map = "string, fixed64", tag = "2")]
        pub(in crate::entry) evaluations: BTreeMap<String, u64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(in crate::entry) struct AcceptedUpdate {
        #[prost(fixed64, tag = "1")]
        pub(in crate::entry) lease: u64,
        #[prost(bytes = "vec", tag = "2")]
        pub(in crate::entry) digest: Vec<u8>,
    }
}
