//! Who is who: roles, the certificate authority, join tokens, and the home folders of members.
//!
//! Reading order: [`Role`] and [`Principal`] (identity is a URI in a certificate), [`Authority`]
//! (what the coordinator signs), [`Token`] and [`Invitation`] (how a stranger becomes a member),
//! [`ClientHome`], [`join`] and [`connect`] (the member's side). A private key is made where it is
//! used and never travels. Identity comes only from the peer's certificate, never from a message.

#![forbid(unsafe_code)]

mod authority;
mod connect;
mod home;
mod invitation;
mod join;
mod request;
mod role;
mod token;

pub use authority::{Authority, AuthorityError, Credentials, SIGNING_REQUEST_MAX, SignError, SignedLeaf};
pub use connect::{connect, connect_lazy};
pub use home::{ClientHome, HomeError, NewHome};
pub use invitation::{Invitation, InvitationError, Redeemed, TokenRefusal};
pub use join::{JoinError, JoinOptions, join};
pub use request::{KeyError, signing_request};
pub use role::{Leaf, ParseRoleError, Principal, PrincipalError, Role};
pub use token::{SECRET_BYTES, Token, TokenError};
