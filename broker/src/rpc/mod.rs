//! The edge: wire to domain and back. No decision is made here.

mod admin;
pub(crate) mod connections;
mod creating;
mod http;
mod leader;
mod lite;
mod messaging;
mod producing;
mod pull;
pub mod status;
mod telemetry;
pub mod validate;

pub(crate) use self::admin::ATTEMPTS_DEFAULT;
pub(crate) use self::admin::AdminService;
pub(crate) use self::connections::ConnectionsService;
pub(crate) use self::http::router;
pub(crate) use self::messaging::MessagingService;
