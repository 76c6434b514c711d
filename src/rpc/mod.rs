//! Server functions: what the dashboard asks of the server. Each is an adapter to the service layer; whatever they
//! refuse, they refuse with the same [`Problem`] as the REST API.

mod identity;
mod jobs;

pub use identity::*;
pub use jobs::*;

use leptos::server_fn::codec::Post;
use leptos::server_fn::error::{FromServerFnError, ServerFnErrorErr};
use leptos::server_fn::{Bytes, ContentType, Decodes, Encodes, Format, FormatType};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::error::{Problem, ProblemCode};

/// JSON in the body of a POST. Unlike the framework's own it decodes text, as resources and streams do: a type then has
/// one decoder in the browser instead of two, and the page a good deal less to download.
pub type Json = Post<JsonText>;

/// The encoding of [`Json`].
pub struct JsonText;

impl ContentType for JsonText {
    const CONTENT_TYPE: &'static str = "application/json";
}

impl FormatType for JsonText {
    const FORMAT_TYPE: Format = Format::Text;
}

impl<T: Serialize> Encodes<T> for JsonText {
    type Error = serde_json::Error;

    fn encode(value: &T) -> Result<Bytes, Self::Error> {
        serde_json::to_vec(value).map(Bytes::from)
    }
}

impl<T: DeserializeOwned> Decodes<T> for JsonText {
    type Error = serde_json::Error;

    fn decode(bytes: Bytes) -> Result<T, Self::Error> {
        let text = std::str::from_utf8(&bytes).map_err(serde::de::Error::custom)?;
        serde_json::from_str(text)
    }
}

impl FromServerFnError for Problem {
    type Encoder = JsonText;

    fn from_server_fn_error(value: ServerFnErrorErr) -> Self {
        match value {
            ServerFnErrorErr::Request(e) => {
                Self::new(ProblemCode::Network, format!("The server can't be reached: {e}"))
            }
            ServerFnErrorErr::Args(e) | ServerFnErrorErr::MissingArg(e) | ServerFnErrorErr::Deserialization(e) => {
                Self::new(ProblemCode::InvalidInput, format!("What was sent can't be read: {e}"))
            }
            other => Self::new(ProblemCode::Internal, other.to_string()),
        }
    }
}
