use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use identity::{JoinOptions, Role, Token, TokenError};
use serde::Serialize;

use crate::{
    args::{Globals, Join},
    error::CliError,
    output,
    session::no_home,
};

/// The longest token file that is read, in bytes: a token is one short line.
const TOKEN_BYTES_MAX: u64 = 4096;

/// What joining prints as JSON.
#[derive(Debug, Serialize)]
struct Joined {
    role: String,
    name: String,
    coordinator: String,
    home: String,
}

/// Makes an identity with a token.
pub(super) async fn run(globals: Globals, command: Join) -> Result<(), CliError> {
    let dir = globals.home.as_deref().ok_or_else(no_home)?;
    let text = match (command.token, &command.token_file) {
        (Some(token), _) => token,
        (None, Some(path)) => read(path)?,
        // The parser demands one of them.
        (None, None) => return Err(CliError::Usage("give --token or --token-file".to_owned())),
    };
    let token: Token = text.trim().parse().map_err(|e: TokenError| CliError::Usage(e.to_string()))?;
    let options = JoinOptions {
        token,
        address: globals.coordinator,
        home: dir,
        expect_role: None,
        expect_name: command.name,
    };
    let home = identity::join(options).await?;
    let principal = home.principal();
    let joined = Joined {
        role: principal.role.to_string(),
        name: principal.name.to_string(),
        coordinator: home.coordinator().to_owned(),
        home: dir.display().to_string(),
    };
    output::item(globals.output, &joined, |joined| {
        vec![format!(
            "joined {} as {} {}; the identity is in {}",
            joined.coordinator, joined.role, joined.name, joined.home
        )]
    })?;
    let next = match principal.role {
        Role::Worker => "`conclave-worker run`",
        Role::Operator => "`conclave worker ls`",
        Role::Coordinator | Role::Reader => "`conclave model ls`",
    };
    output::note(&format!("next: {next} with --home {} or CONCLAVE_HOME", joined.home));
    Ok(())
}

fn read(path: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(TOKEN_BYTES_MAX).read_to_string(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(CliError::file("read token file", path))?;
    Ok(text)
}
