//! `/openapi/v3` and `/openapi/v2`.

use crate::http::Query;
use crate::http::respond::{Answer, Style};
use crate::server::Server;
use http::HeaderMap;

/// The answer to a path; none: nothing is there.
pub fn answer(
    _server: &Server,
    _headers: &HeaderMap,
    _path: &str,
    _query: &Query,
    _style: Style,
) -> Option<Answer> {
    None
}
