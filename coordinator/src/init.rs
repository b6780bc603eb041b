//! `conclave-coordinator init`: all that a coordinator needs before its first start.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, bail};
use identity::{Authority, ClientHome, NewHome, Principal, Role};

use crate::{app, config::TEMPLATE};

/// The operator of this host; its key lies beside the authority's, and lives as long as that.
const OPERATOR: &str = "admin";
const OPERATOR_VALIDITY: Duration = Duration::from_secs(10 * 365 * 86_400);
const TRUST_DOMAIN: &str = "conclave";

/// Makes the home; refuses to touch one that is there.
pub(crate) fn init(home: &Path, names: Vec<String>, listen: SocketAddr) -> anyhow::Result<()> {
    let config = home.join("config.toml");
    if config.exists() {
        bail!("{} is there already: this home was initialised before, nothing was changed", config.display());
    }
    let mut names = names;
    for name in ["localhost", "127.0.0.1"] {
        if !names.iter().any(|n| n == name) {
            names.push(name.to_owned());
        }
    }
    service::files::create_private_dir(home).context("create home")?;
    let now = service::clock::unix_ms();
    let authority = Authority::create(&home.join(app::AUTHORITY), TRUST_DOMAIN, now)?;
    // Issued once here, so that a bad name is refused now and not at the first start.
    if let Err(refused) = authority.issue_server(&names, now, app::SERVER_VALIDITY) {
        // Made a moment ago, by us, and of no use to anybody.
        std::fs::remove_dir_all(home.join(app::AUTHORITY)).context("remove the unused authority")?;
        return Err(refused.into());
    }
    operator(home, &authority, &app::reachable(&names, listen), now)?;
    let quoted: Vec<String> = names.iter().map(|n| format!("{n:?}")).collect();
    let text =
        TEMPLATE.replace("NAMES", &format!("[{}]", quoted.join(", "))).replace("LISTEN", &listen.to_string());
    // Last: its presence says that the home is complete.
    service::files::replace_shared(&config, text.as_bytes()).context("write config.toml")?;
    Ok(())
}

/// The identity that the command line on this host uses.
fn operator(home: &Path, authority: &Authority, coordinator: &str, now: u64) -> anyhow::Result<()> {
    let principal = Principal { role: Role::Operator, name: OPERATOR.parse()? };
    let (key_pem, request) = identity::signing_request()?;
    let leaf = authority.sign(&request, &principal, now, OPERATOR_VALIDITY)?;
    ClientHome::create(
        &home.join(app::OPERATOR_HOME),
        &NewHome {
            coordinator,
            principal: &principal,
            trust_domain: authority.trust_domain(),
            key_pem: &key_pem,
            certificate_pem: &leaf.pem,
            ca_pem: authority.ca_pem(),
        },
    )?;
    Ok(())
}
