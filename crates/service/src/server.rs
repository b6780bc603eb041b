//! The HTTP/2 server with bounds on everything that a peer decides.

use std::time::Duration;

use tonic::transport::Server;

/// Requests in progress on one connection.
const STREAMS_MAX: u32 = 128;

/// Streams that we reset because of the peer's errors before the connection is closed. The default
/// of `tonic` is no limit, which lets a peer make us reset for ever.
const LOCAL_RESETS_MAX: usize = 256;

/// Ping an idle peer this often, and close when no answer comes within the same time.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Bytes in flight per request and per connection.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// The largest frame that peers may send us: a chunk of a payload is one frame.
pub(crate) const FRAME_MAX: u32 = 512 << 10;

/// Bytes of headers per request.
const HEADER_LIST_MAX: u32 = 8 << 10;

/// A server builder with our bounds instead of the defaults. There is no request time-out: it would
/// cut long uploads; handlers bound their own time. No maximal age: [`crate::listen`] ends connections.
pub fn hardened() -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_local_error_reset_streams(Some(LOCAL_RESETS_MAX))
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .http2_max_header_list_size(HEADER_LIST_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_MAX)
}
