//! The composition root: opens the home, wires the parts, serves, and shuts down in order.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use identity::{Authority, ClientHome};
use model::{DeviceChoice, Hardware};
use proto::{
    chunks::CHUNK_BYTES_MAX,
    inference::grpc_inference_service_server::GrpcInferenceServiceServer,
    v1::{control_server::ControlServer, enrolment_server::EnrolmentServer, registry_server::RegistryServer},
};
use service::{
    clock::Clock,
    listen::Listener,
    task::{OnFailure, Tasks},
    tls,
};
use tokio::net::TcpListener;

use crate::{
    api::{
        self, Uploads, authorize, control::Control, direct::Direct, enrolment::Enrolment,
        inference::Inference, registry, training::Training,
    },
    compute::Compute,
    config::{Config, Flags},
    invitations::Invitations,
    predict::Engine,
    registry::Registry,
    runs::{Runs, Shared},
    store::{MemberRecord, Opened, Options, Store},
    workers::Workers,
};

/// Bytes of a block of all updates. Larger ones leave the caches: 64 MiB took two to four times as long.
const REDUCE_BUDGET_MAX: usize = 8 << 20;

/// Folders and files of a home.
pub(crate) const AUTHORITY: &str = "authority";
pub(crate) const OPERATOR_HOME: &str = "operator";
pub(crate) const DATA: &str = "data";
const LOCK: &str = "lock";
const ADDRESSES: &str = "addresses.json";

/// The server's own certificate is made at every start.
pub(crate) const SERVER_VALIDITY: Duration = Duration::from_secs(397 * 86_400);

/// How long open calls may take to end after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(8);

/// How long the disk may take for what is left after that.
const CLOSE: Duration = Duration::from_secs(2);

/// The largest message that is read: a chunk and its frame.
const MESSAGE_BYTES_MAX: usize = 2 * CHUNK_BYTES_MAX;

/// The largest inference request: tensors of clients that know no chunks.
const INFER_BYTES_MAX: usize = 64 << 20;

/// The address that goes into tokens and the operator's home.
pub(crate) fn reachable(names: &[String], bound: SocketAddr) -> String {
    let fallback = bound.ip().to_string();
    let host = match bound.ip().is_loopback() {
        // Whatever the names are, nobody else can reach this port.
        true => &fallback,
        false => names.first().unwrap_or(&fallback),
    };
    match host.contains(':') {
        true => format!("[{host}]:{}", bound.port()),
        false => format!("{host}:{}", bound.port()),
    }
}

/// Runs a coordinator until shutdown.
pub(crate) async fn serve(home: PathBuf, flags: Flags) -> anyhow::Result<()> {
    let config = Config::load(&home, &flags)?;
    let _lock = lock(&home)?;
    let tasks = Tasks::new();
    service::shutdown::on_signals(&tasks).context("listen for signals")?;
    let authority = Arc::new(Authority::open(&home.join(AUTHORITY))?);
    let listener =
        Listener::bind(config.listen).await.with_context(|| format!("listen on {}", config.listen))?;
    let address = reachable(&config.names, listener.address());
    let web = match config.http {
        None => None,
        Some(http) => Some(TcpListener::bind(http).await.with_context(|| format!("listen on {http}"))?),
    };

    let shared = Arc::new(open(&home, &config, &tasks).await?);
    let predict = compute("predict", &config)?;
    let engine = Engine::new(shared.registry.clone(), predict, shared.device, tasks.clone());
    let engine = Arc::new(engine);
    let invitations = Arc::new(Invitations::new(
        shared.store.clone(),
        authority.clone(),
        address.clone(),
        config.certificate_ttl,
        tasks.clone(),
    ));
    let runs = Arc::new(Runs::open(shared.clone()).await?);
    let store = shared.store.clone();

    let mut http = None;
    if let Some(web) = web {
        http = Some(web.local_addr().context("read the HTTP address")?);
        let pages = api::http::router(engine.clone());
        let stop = tasks.shutdown().clone().cancelled_owned();
        let serving = async move { axum::serve(web, pages).with_graceful_shutdown(stop).await };
        tasks.spawn("http", OnFailure::StopProcess, serving);
    }
    grpc(listener, &config, &authority, &Parts { shared, runs, engine, invitations }, &tasks)?;
    // Last: whoever waits for the file finds everything served.
    announce(&home, &address, http)?;
    tracing::info!(%address, http = http.map(|a| a.to_string()), home = %home.display(), "coordinator ready");

    tasks.shutdown().cancelled().await;
    tracing::info!("shutting down");
    let left = tasks.wait(DRAIN).await;
    if left > 0 {
        tracing::warn!(left, "tasks did not end in time and were dropped");
    }
    // Nobody adds to the journal any more: what waits is written, and the index brought up to it.
    if tokio::time::timeout(CLOSE, tokio::task::spawn_blocking(move || store.close())).await.is_err() {
        tracing::warn!(
            "the journal was not written to its end in time; nothing that was acknowledged is lost"
        );
    }
    // The addresses are of no use to anybody now; a missing file is what we want.
    let _ = std::fs::remove_file(home.join(ADDRESSES));
    match tasks.failure() {
        None => Ok(()),
        Some(cause) => Err(anyhow::anyhow!("{cause}")),
    }
}

struct Parts {
    shared: Arc<Shared>,
    runs: Arc<Runs>,
    engine: Arc<Engine>,
    invitations: Arc<Invitations>,
}

/// Opens what is on disk and the threads that compute.
async fn open(home: &Path, config: &Config, tasks: &Tasks) -> anyhow::Result<Shared> {
    let hardware = hardware(config)?;
    let data = home.join(DATA);
    let lease_ms = u64::try_from(config.lease.as_millis()).unwrap_or(u64::MAX);
    let options = Options { compaction: config.compaction, lease_ms };
    let opened = tasks.blocking("open store", move || -> anyhow::Result<_> {
        std::fs::create_dir_all(&data).with_context(|| format!("create {}", data.display()))?;
        let Opened { store, notes } = Store::open(&data, options)?;
        notes.iter().for_each(|note| tracing::warn!("{note}"));
        let store = Arc::new(store);
        let registry = Arc::new(Registry::open(store.clone())?);
        let marks = store.scan::<MemberRecord>("member/worker/")?;
        Ok((store, registry, marks))
    });
    let (store, registry, marks) = opened.await??;
    tracing::info!(epoch = store.epoch, "opened the journal");
    let open_files = service::descriptors::raise();
    tracing::info!(?open_files, "connections, and updates that a reduction keeps, may be as many");
    Ok(Shared {
        store,
        registry,
        workers: Arc::new(Workers::new(marks)),
        clock: Clock::start(),
        tasks: tasks.clone(),
        evaluate: compute("evaluate", config)?,
        device: hardware.device,
        upload_bytes: config.limits.upload_bytes,
        disk_reserve: config.limits.disk_reserve,
        threads: config.aggregate_threads,
        reduce_budget: usize::try_from(config.limits.upload_budget)
            .unwrap_or(usize::MAX)
            .min(REDUCE_BUDGET_MAX),
        lease_ms,
    })
}

/// The coordinator evaluates and predicts on the CPU: GPUs belong to workers.
fn hardware(config: &Config) -> anyhow::Result<Hardware> {
    let hardware = model::open_device(DeviceChoice::Cpu, config.threads)?;
    tracing::info!(device = hardware.description, "evaluation and prediction");
    hardware.notes.iter().for_each(|note| tracing::info!("{note}"));
    Ok(hardware)
}

fn compute(name: &'static str, config: &Config) -> anyhow::Result<Compute> {
    let threads = config.threads;
    let prepare = move || {
        // libtorch's thread count is per calling thread; the device itself was opened before.
        if let Err(error) = model::open_device(DeviceChoice::Cpu, threads) {
            tracing::error!(%error, "set threads");
        }
    };
    Compute::start(name, prepare).with_context(|| format!("start thread {name}"))
}

/// Serves gRPC: members on one router, hosts that join on another.
fn grpc(
    listener: Listener,
    config: &Config,
    authority: &Authority,
    parts: &Parts,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    let own = authority.issue_server(&config.names, service::clock::unix_ms(), SERVER_VALIDITY)?;
    let identity = tls::Identity::from_pem(own.chain_pem.as_bytes(), own.key_pem.as_bytes())?;
    let mutual = tls::server_mutual(&identity, &[authority.certificate().clone()], proto::ALPN)?;
    let enrol = tls::server_anonymous(&identity, proto::ALPN_ENROL)?;
    let limits = service::listen::Limits {
        connections: config.limits.connections,
        connections_per_address: config.limits.connections_per_address,
        ..service::listen::Limits::default()
    };
    let (members, strangers, _) = listener.serve(mutual, enrol, proto::ALPN_ENROL, limits, tasks);

    let uploads = Uploads::new(config.limits.upload_budget, config.limits.upload_bytes);
    let Parts { shared, runs, engine, invitations } = parts;
    let training = Training { shared: shared.clone(), runs: runs.clone(), uploads: uploads.clone() };
    let control = Control {
        shared: shared.clone(),
        runs: runs.clone(),
        invitations: invitations.clone(),
        uploads,
        marking: Arc::default(),
    };
    let registry = registry::Registry { shared: shared.clone() };
    let inference = Inference { engine: engine.clone() };
    let members_served = service::server::hardened()
        .layer(authorize::Layer::new(config.trust_domain.as_str()))
        .add_service(Direct::new(training, MESSAGE_BYTES_MAX))
        .add_service(ControlServer::new(control).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(RegistryServer::new(registry).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(GrpcInferenceServiceServer::new(inference).max_decoding_message_size(INFER_BYTES_MAX))
        .serve_with_incoming_shutdown(members, tasks.shutdown().clone().cancelled_owned());
    let enrolment = Enrolment { tasks: tasks.clone(), invitations: invitations.clone() };
    let strangers_served = service::server::hardened()
        .add_service(EnrolmentServer::new(enrolment).max_decoding_message_size(64 * 1024))
        .serve_with_incoming_shutdown(strangers, tasks.shutdown().clone().cancelled_owned());
    tasks.spawn("grpc", OnFailure::StopProcess, members_served);
    tasks.spawn("enrolment", OnFailure::StopProcess, strangers_served);
    Ok(())
}

/// One coordinator per home: the operating system drops the lock with the process.
pub(crate) fn lock(home: &Path) -> anyhow::Result<std::fs::File> {
    let path = home.join(LOCK);
    let file = std::fs::File::create(&path).with_context(|| format!("open {}", path.display()))?;
    if file.try_lock().is_err() {
        anyhow::bail!("{} is locked: another coordinator serves this home; stop it first", path.display());
    }
    Ok(file)
}

/// Tells tools on this host where the coordinator listens.
fn announce(home: &Path, address: &str, http: Option<SocketAddr>) -> anyhow::Result<()> {
    ClientHome::set_coordinator(&home.join(OPERATOR_HOME), address)?;
    let text = serde_json::json!({ "grpc": address, "http": http.map(|a| a.to_string()) }).to_string();
    service::files::replace_shared(&home.join(ADDRESSES), text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_name_an_address_that_can_be_reached() {
        let names = ["fed.example".to_owned(), "localhost".to_owned()];
        let at = |names: &[String], bound: &str| reachable(names, bound.parse().unwrap());
        assert_eq!(at(&names, "0.0.0.0:7433"), "fed.example:7433");
        assert_eq!(at(&names, "127.0.0.1:9"), "127.0.0.1:9");
        assert_eq!(at(&names, "[::1]:9"), "[::1]:9");
        assert_eq!(at(&["fd00::1".to_owned()], "[::]:9"), "[fd00::1]:9");
    }
}
