use std::time::Duration;

use params::Name;
use proto::v1::InviteRequest;
use serde::Serialize;

use crate::{
    args::InviteRole,
    error::CliError,
    output::{self, Format},
    session::Session,
};

/// What an invitation prints as JSON.
#[derive(Debug, Serialize)]
struct Invited<'a> {
    token: &'a str,
    role: &'a str,
    name: &'a str,
    expires_unix_ms: u64,
}

/// Asks for a token and prints it alone, so that it can be piped to where it is needed.
pub(super) async fn run(
    session: &Session,
    format: Format,
    role: InviteRole,
    name: &Name,
    ttl: Duration,
) -> Result<(), CliError> {
    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    let request = InviteRequest { role: role.as_str().to_owned(), name: name.to_string(), ttl_ms };
    let answer = session.control().invite(request).await?.into_inner();
    let invited = Invited {
        token: &answer.token,
        role: role.as_str(),
        name: name.as_str(),
        expires_unix_ms: answer.expires_unix_ms,
    };
    output::item(format, &invited, |invited| vec![invited.token.to_owned()])?;
    let program = if role == InviteRole::Worker { "conclave-worker" } else { "conclave" };
    let address = session.address();
    output::note(&format!(
        "the token is good once, until {}; on the host of {name}:\n  {program} join --coordinator {address} \
         --token-file FILE --home DIR",
        output::time(answer.expires_unix_ms),
    ));
    Ok(())
}
