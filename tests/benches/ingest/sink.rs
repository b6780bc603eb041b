//! The bare service: the same listener, TLS and HTTP/2 settings, and nothing behind them.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use identity::Authority;
use proto::v1::{
    self,
    training_server::{Training, TrainingServer},
};
use service::{listen, task::Tasks, tls};
use tonic::{Request, Response, Status, Streaming};

/// Names the folder of the certificate authority to the process of the sink.
pub(crate) const HOME: &str = "INGEST_SINK";

/// A process of its own, as the coordinator is one.
pub(crate) struct Sink {
    process: Child,
    address: String,
}

impl Sink {
    pub(crate) fn start(authority: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .env(HOME, authority)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { process, address: address.trim().to_owned() }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Serves until it is killed.
pub(crate) fn serve(authority: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let authority = Authority::open(authority).unwrap();
        let validity = std::time::Duration::from_secs(86_400);
        let own =
            authority.issue_server(&["localhost".to_owned()], service::clock::unix_ms(), validity).unwrap();
        let identity = tls::Identity::from_pem(own.chain_pem.as_bytes(), own.key_pem.as_bytes()).unwrap();
        let mutual = tls::server_mutual(&identity, &[authority.certificate().clone()], proto::ALPN).unwrap();
        let enrol = tls::server_anonymous(&identity, proto::ALPN_ENROL).unwrap();
        let tasks = Tasks::new();
        let listener = listen::Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let port = listener.address().port();
        let (members, _strangers, _) =
            listener.serve(mutual, enrol, proto::ALPN_ENROL, listen::Limits::default(), &tasks);
        println!("localhost:{port}");
        std::io::stdout().flush().unwrap();
        let service = TrainingServer::new(Drain).max_decoding_message_size(4 << 20);
        service::server::hardened().add_service(service).serve_with_incoming(members).await.unwrap();
    });
}

struct Drain;

#[tonic::async_trait]
impl Training for Drain {
    async fn submit_update(
        &self,
        request: Request<Streaming<v1::UpdatePart>>,
    ) -> Result<Response<v1::SubmitUpdateResponse>, Status> {
        let mut stream = request.into_inner();
        while let Some(part) = stream.message().await? {
            std::hint::black_box(part);
        }
        Ok(Response::new(v1::SubmitUpdateResponse {}))
    }

    type FetchStream = tokio_stream::Empty<Result<v1::Chunk, Status>>;

    async fn register(
        &self,
        _: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        Err(Status::unimplemented("a sink"))
    }

    async fn poll(&self, _: Request<v1::PollRequest>) -> Result<Response<v1::PollResponse>, Status> {
        Err(Status::unimplemented("a sink"))
    }

    async fn progress(
        &self,
        _: Request<v1::ProgressRequest>,
    ) -> Result<Response<v1::ProgressResponse>, Status> {
        Err(Status::unimplemented("a sink"))
    }

    async fn fetch(&self, _: Request<v1::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        Err(Status::unimplemented("a sink"))
    }

    async fn update_status(
        &self,
        _: Request<v1::UpdateStatusRequest>,
    ) -> Result<Response<v1::UpdateStatusResponse>, Status> {
        Err(Status::unimplemented("a sink"))
    }

    async fn submit_evaluation(
        &self,
        _: Request<v1::SubmitEvaluationRequest>,
    ) -> Result<Response<v1::SubmitEvaluationResponse>, Status> {
        Err(Status::unimplemented("a sink"))
    }

    async fn decline(&self, _: Request<v1::DeclineRequest>) -> Result<Response<v1::DeclineResponse>, Status> {
        Err(Status::unimplemented("a sink"))
    }

    async fn leave(&self, _: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveResponse>, Status> {
        Err(Status::unimplemented("a sink"))
    }
}
