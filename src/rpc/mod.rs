//! Server functions: what the dashboard asks of the server. Each is an adapter to the service layer; whatever they
//! refuse, they refuse with the same [`Problem`] as the REST API.

mod jobs;

pub use jobs::*;

use leptos::server_fn::codec::JsonEncoding;
use leptos::server_fn::error::{FromServerFnError, ServerFnErrorErr};

use crate::domain::error::{Problem, ProblemCode};

impl FromServerFnError for Problem {
    type Encoder = JsonEncoding;

    fn from_server_fn_error(value: ServerFnErrorErr) -> Self {
        match value {
            ServerFnErrorErr::Request(e) => {
                Self::new(ProblemCode::Network, format!("The server can't be reached: {e}"))
            }
            ServerFnErrorErr::Args(e) | ServerFnErrorErr::MissingArg(e) => Self::new(ProblemCode::InvalidInput, e),
            other => Self::new(ProblemCode::Internal, other.to_string()),
        }
    }
}
