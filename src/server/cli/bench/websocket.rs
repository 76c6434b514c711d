//! As much of a WebSocket's client (RFC 6455) as it takes to be sent messages.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// The longest message that is taken.
const MESSAGE_MAX: u64 = 64 << 20;

/// A connection that is only read.
pub struct WebSocket {
    stream: BufReader<TcpStream>,
}

impl WebSocket {
    pub async fn open(server: SocketAddr, path: &str, token: &str) -> Result<Self, Error> {
        let mut stream = TcpStream::connect(server).await?;
        // Any key will do; its answer proves nothing here.
        let hello = format!(
            "GET {path} HTTP/1.1\r\nHost: {server}\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(hello.as_bytes()).await?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        if line.split(' ').nth(1) != Some("101") {
            return Err(Error::other(format!("the server answered: {}", line.trim())));
        }
        while !line.trim().is_empty() {
            line.clear();
            stream.read_line(&mut line).await?;
        }
        Ok(Self { stream })
    }

    /// The next message; none when the server closes the connection. Pings go unanswered, which this server does not mind.
    pub async fn message(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let mut message = Vec::new();
        loop {
            let (first, second) = (self.stream.read_u8().await?, self.stream.read_u8().await?);
            let length = match second & 0x7f {
                126 => u64::from(self.stream.read_u16().await?),
                127 => self.stream.read_u64().await?,
                short => u64::from(short),
            };
            if length > MESSAGE_MAX {
                return Err(Error::new(
                    ErrorKind::InvalidData,
                    format!("a message of {length} bytes"),
                ));
            }
            let from = message.len();
            message.resize(from + length as usize, 0);
            self.stream.read_exact(&mut message[from..]).await?;
            match first & 0x0f {
                // A part of a text, the last one when the first bit is set.
                0 | 1 if first & 0x80 != 0 => return Ok(Some(message)),
                0 | 1 => {}
                8 => return Ok(None),
                _ => message.truncate(from),
            }
        }
    }
}
