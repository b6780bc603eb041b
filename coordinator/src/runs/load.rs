//! Runs brought back from what is on disk.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use params::{Digest, Layout, Name};
use round::{Committed, Machine, Phase};
use tokio::sync::{mpsc, watch};

use super::{
    Board, Command, DriveError, RunError, Shared,
    attempt::Made,
    driver::Driver,
    ledger::Candidate,
    meet::Met,
    prepare::Context,
    replay::Replay,
    run_name,
    view::{Traffic, View},
    weights::Weights,
};
use crate::{
    registry,
    store::{Blobs, RunRecord, RunState},
};

/// The machine of a run that was just prepared.
pub(super) fn open(record: &RunRecord, blobs: &Blobs, lease_ms: u64) -> Result<Machine, RunError> {
    adopt(record, blobs, lease_ms).map(|(_, machine)| machine)
}

/// The machine of a run as its record has it: right after its last committed round.
pub(crate) fn adopt(record: &RunRecord, blobs: &Blobs, lease_ms: u64) -> Result<(Name, Machine), RunError> {
    let run = run_name(record)?;
    let context = Context::load(record, run.clone(), blobs).map_err(DriveError::from)?;
    let ledger: BTreeMap<String, u32> = match &record.ledger {
        None => BTreeMap::new(),
        Some(blob) => {
            let bytes =
                blobs.get(&registry::digest(blob).map_err(DriveError::from)?).map_err(DriveError::from)?;
            serde_json::from_slice(&bytes).map_err(|_| DriveError::Defect("a ledger that does not parse"))?
        }
    };
    let shards = ledger.into_iter().filter_map(|(name, shard)| Some((name.parse().ok()?, shard))).collect();
    let base = registry::digest(&record.base).map_err(DriveError::from)?;
    let from = Committed { round: record.committed, base, shards };
    let lease_base =
        service::random::u64().map_err(|_| DriveError::Defect("no randomness from the operating system"))?;
    let mut machine = Machine::new(context.plan(record.rounds, lease_ms), from, lease_base >> 1, 0);
    let cause = record.cause.clone();
    let end = match record.state {
        RunState::Active => None,
        // The first step of a run without rounds to do ends it.
        RunState::Completed => Some(round::Event::Tick),
        RunState::Failed => Some(round::Event::Failed { reason: cause }),
        RunState::Stopped => Some(round::Event::Stop { reason: cause }),
    };
    if let Some(event) = end {
        // What the effects ask for was done by the release that wrote the record.
        let _ = machine.step(0, event);
    }
    Ok((run, machine))
}

/// The driver of a run as the journal has it.
pub(super) fn driver(
    shared: Arc<Shared>,
    record: RunRecord,
    replay: Replay,
    fresh: bool,
    commands: mpsc::Receiver<Command>,
) -> Result<Driver, RunError> {
    let view = view(&shared, &record)?;
    let context = view.context.clone();
    let read = |blob| -> Result<_, DriveError> {
        let digest = registry::digest(blob)?;
        Ok((digest, shared.store.blobs.map(&digest)?))
    };
    let (digest, file) = read(&record.base)?;
    let base = Weights::new(&context.layout, digest, file.clone()).map_err(DriveError::from)?;
    let state = record.optimizer.as_ref().map(read).transpose()?.map(|(_, state)| state);
    // Before anything is told to anybody: a file that cannot be read now may be read later.
    let made = match replay.machine.phase() {
        Phase::Evaluating | Phase::Publishing => {
            Some(candidate(&context.layout, &shared.store.blobs, &replay)?)
        }
        _ => None,
    };
    let shown = made.as_ref().map_or(&base, |made| &made.weights);
    let model = (shown.digest, shown.file.clone());
    let (time_ms, clock_ms) = (replay.machine.now(), shared.clock.now_ms());
    let rounds = view.rounds.clone();
    Ok(Driver {
        shared,
        context,
        replay,
        time_ms,
        clock_ms,
        record,
        rounds,
        base,
        state,
        model,
        gathered: None,
        made,
        met: Met::new(fresh),
        traffic: Arc::new(Traffic::default()),
        commands,
        board: Arc::new(Board::default()),
        view: watch::Sender::new(Arc::new(view)),
        shown_ms: 0,
        stale: true,
        appended: 0,
        committed_at: None,
        post_after: 0,
        replies: Vec::new(),
    })
}

/// The candidate of a round that was being evaluated or published, from its blobs.
fn candidate(layout: &Layout, blobs: &Blobs, replay: &Replay) -> Result<Made, DriveError> {
    let candidate = replay.ledger.candidate.as_ref();
    let Candidate { weights, optimizer } =
        candidate.ok_or(DriveError::Defect("a round to publish without a candidate"))?;
    let digest = registry::digest(weights)?;
    let weights = Weights::new(layout, digest, blobs.map(&digest)?)?;
    let (state_digest, state) = match optimizer {
        None => (Digest::of(b""), Bytes::new()),
        Some(blob) => {
            let digest = registry::digest(blob)?;
            (digest, blobs.map(&digest)?)
        }
    };
    Ok(Made { weights, state, state_digest, carry: Vec::new() })
}

/// What is seen of a run that nobody drives (yet).
pub(super) fn view(shared: &Shared, record: &RunRecord) -> Result<View, RunError> {
    let run = run_name(record)?;
    // A job that was a run once: whatever is wrong with it now is a fault of this host.
    let context = Arc::new(Context::load(record, run, &shared.store.blobs).map_err(DriveError::from)?);
    let rounds = shared.registry.rounds(&context.run).map_err(DriveError::from)?;
    Ok(View {
        state: record.state.word(),
        cause: record.cause.clone(),
        ended: record.state != RunState::Active,
        round: record.committed.saturating_add(1),
        planned: record.rounds,
        rounds: rounds.into_iter().map(Arc::new).collect(),
        members: Vec::new(),
        standings: BTreeMap::new(),
        events: shared.store.look_at_run(&context.run, |replay| replay.events.clone()).unwrap_or_default(),
        context,
    })
}
