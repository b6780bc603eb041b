//! Invitations: one-time tokens that operators hand out, and their redemption.

use std::{sync::Arc, time::Duration};

use identity::{
    Authority, Invitation, Principal, Redeemed, Role, SignError, SignedLeaf, Token, TokenRefusal,
};
use params::Name;
use proto::{
    error::{ErrorCode, WireError},
    v1::JoinRequest,
};
use service::task::Tasks;
use tokio::sync::Mutex;

use crate::{
    api::errors::internal,
    store::{Changes, Store, StoreError},
};

/// How long a token is good for, unless the operator says otherwise.
const TTL_DEFAULT: Duration = Duration::from_secs(3600);

/// The longest that a token may be good for.
const TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Issues and redeems invitations.
pub(crate) struct Invitations {
    store: Arc<Store>,
    authority: Arc<Authority>,
    /// Where members reach this coordinator, `host:port`: goes into tokens.
    address: String,
    certificate_ttl: Duration,
    tasks: Tasks,
    /// Held while a token is redeemed: it is good for one key.
    redeeming: Mutex<()>,
}

impl std::fmt::Debug for Invitations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invitations").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Why a join is refused.
#[derive(Debug, thiserror::Error)]
enum JoinRefusal {
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("stored invitation: {0}")]
    Damaged(String),
    #[error(
        "this token is for {} '{}'; it is still good: join with it as that, or ask the operator for another one",
        .0.role, .0.name
    )]
    Other(Principal),
}

impl Invitations {
    pub(crate) fn new(
        store: Arc<Store>,
        authority: Arc<Authority>,
        address: String,
        certificate_ttl: Duration,
        tasks: Tasks,
    ) -> Self {
        Self { store, authority, address, certificate_ttl, tasks, redeeming: Mutex::new(()) }
    }

    /// A new token for one member, and when it expires. `ttl_ms` of 0 takes the default.
    pub(crate) async fn invite(
        &self,
        role: Role,
        name: Name,
        ttl_ms: u64,
    ) -> Result<(String, u64), WireError> {
        if role == Role::Coordinator {
            return Err(WireError::invalid(
                "role 'coordinator' cannot be invited: use worker, operator or reader",
            ));
        }
        let ttl = if ttl_ms == 0 { TTL_DEFAULT } else { Duration::from_millis(ttl_ms) };
        if ttl > TTL_MAX {
            let days = TTL_MAX.as_secs() / 86_400;
            return Err(WireError::invalid(format!(
                "a token cannot be good for longer than {days} days, ask for less with --ttl"
            )));
        }
        let token = Token::generate(self.authority.fingerprint(), &self.address).map_err(|e| internal(&e))?;
        let expires_unix_ms =
            service::clock::unix_ms().saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(0));
        let invitation = Invitation {
            id: token.id.clone(),
            role,
            name,
            secret_hash: token.secret_hash(),
            expires_unix_ms,
            used_by: None,
        };
        keep(&self.store, &invitation).await.map_err(|e| internal(&e))?;
        Ok((token.expose().to_string(), expires_unix_ms))
    }

    /// Redeems a token for the key of a signing request. The use is durable before anything is signed,
    /// so that a crash in between cannot make a token good for two keys.
    pub(crate) async fn redeem(
        &self,
        join: JoinRequest,
    ) -> Result<(Principal, SignedLeaf, String), WireError> {
        let JoinRequest { token_id: id, token_secret: secret, signing_request, expect_role, expect_name } =
            join;
        let _one_at_a_time = self.redeeming.lock().await;
        let (store, authority, ttl) = (self.store.clone(), self.authority.clone(), self.certificate_ttl);
        let shown: String = id.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
        let work = async move {
            let now = service::clock::unix_ms();
            let spki = Authority::requested_spki(&signing_request)?;
            let mut invitation = find(&store, &id)?;
            let redeemed = invitation.redeem(&secret, spki, now)?;
            let principal = invitation.principal();
            // Only whoever knows the secret comes this far; the stored invitation is still as it was.
            let differs = |wanted: &str, found: &str| !wanted.is_empty() && wanted != found;
            if differs(&expect_role, principal.role.as_str())
                || differs(&expect_name, principal.name.as_str())
            {
                return Err(JoinRefusal::Other(principal));
            }
            if redeemed == Redeemed::First {
                keep(&store, &invitation).await?;
            }
            let leaf = authority.sign(&signing_request, &principal, now, ttl)?;
            Ok::<_, JoinRefusal>((principal, leaf))
        };
        // To its end, also when the caller goes away: a token must not be used up for nothing.
        let result = self.tasks.finish("redeem token", work).await.map_err(|e| internal(&e))?;
        let (principal, leaf) = result.map_err(|refusal| {
            tracing::info!(token = shown, reason = %refusal, "join refused");
            match refusal {
                JoinRefusal::Token(refusal) => refusal.into(),
                JoinRefusal::Sign(SignError::Crypto(_)) | JoinRefusal::Store(_) | JoinRefusal::Damaged(_) => {
                    internal(&refusal)
                }
                JoinRefusal::Sign(refusal) => WireError::invalid(refusal.to_string()),
                JoinRefusal::Other(_) => WireError::new(ErrorCode::Forbidden, refusal.to_string()),
            }
        })?;
        tracing::info!(role = %principal.role, name = %principal.name, "joined");
        Ok((principal, leaf, self.authority.ca_pem().to_owned()))
    }
}

fn key(id: &str) -> String {
    format!("invitation/{id}")
}

fn find(store: &Store, id: &str) -> Result<Invitation, JoinRefusal> {
    let unknown = || TokenRefusal::Unknown { id: id.chars().take(16).collect() };
    // Ids are made here, of hexadecimal digits: anything else is not one, and not a key to look up.
    if id.len() > 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(unknown().into());
    }
    let stored: serde_json::Value = store.get(&key(id))?.ok_or_else(unknown)?;
    Invitation::from_bytes(stored.to_string().as_bytes()).map_err(|e| JoinRefusal::Damaged(e.to_string()))
}

/// Makes an invitation durable as it is now.
async fn keep(store: &Store, invitation: &Invitation) -> Result<(), StoreError> {
    let key = key(&invitation.id);
    let value: serde_json::Value = serde_json::from_slice(&invitation.to_bytes())
        .map_err(|cause| StoreError::Record { key: key.clone(), cause })?;
    let mut changes = Changes::default();
    changes.put(&key, &value)?;
    store.commit(changes).await
}
