//! Calls in the protocol that Apache's servers speak among each other: a length, a header in JSON,
//! a body. One connection for each call.
//!
//! Its own tool for operators takes seconds of processor time for a question; these take none, so
//! that asking does not disturb what is measured.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(3);
/// Longer answers are no answers to what is asked here.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Messages of a queue, from an offset.
    Pull = 11,
    /// Makes a topic.
    CreateTopic = 17,
    /// Where a topic is, as a name server knows it.
    Route = 105,
    /// Makes a consumer group.
    CreateGroup = 200,
    /// Who is master and who is in sync, as the controller knows it.
    SyncStates = 1006,
}

/// The code of an answer to which nothing is wrong.
pub const SUCCESS: i64 = 0;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// [`SUCCESS`], or why not.
    pub code: i64,
    /// The same in words, if there are any.
    pub remark: String,
    /// Fields of the header.
    pub fields: BTreeMap<String, String>,
    /// What comes after the header.
    pub body: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    code: i64,
    #[serde(default)]
    remark: Option<String>,
    #[serde(default)]
    ext_fields: Option<BTreeMap<String, String>>,
}

impl Answer {
    /// Fails unless nothing is wrong.
    pub fn success(self) -> anyhow::Result<Self> {
        ensure!(self.code == SUCCESS, "code {}: {}", self.code, self.remark);
        Ok(self)
    }

    /// A field of the header that is a number.
    pub fn number(&self, field: &str) -> anyhow::Result<u64> {
        let value = self.fields.get(field).with_context(|| format!("no field {field}"))?;
        value.parse().with_context(|| format!("{field} is {value}"))
    }
}

/// Asks the server at a port of this machine.
pub async fn call(
    port: u16,
    request: Request,
    fields: &[(&str, String)],
    body: &[u8],
) -> anyhow::Result<Answer> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(&frame(request, fields, body)?).await?;
        let length = stream.read_u32().await? as usize;
        ensure!((4..=FRAME_BYTES_MAX).contains(&length), "an answer of {length} bytes");
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).await?;
        parse(&bytes)
    };
    let answer = tokio::time::timeout(LIMIT, exchange).await;
    answer.context("no answer in time").flatten().with_context(|| format!("{request:?} at {port}"))
}

fn frame(request: Request, fields: &[(&str, String)], body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let fields: BTreeMap<&str, &str> =
        fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let header = serde_json::to_vec(&serde_json::json!({
        "code": request as u32,
        "language": "OTHER",
        "version": 0,
        "opaque": 1,
        "flag": 0,
        "extFields": fields,
    }))?;
    // The highest byte of the header's length says how the header is written: 0 is JSON.
    let header_length = u32::try_from(header.len())?;
    ensure!(header_length < 1 << 24, "a header of {header_length} bytes");
    let length = u32::try_from(4 + header.len() + body.len())?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(header_length.to_be_bytes());
    bytes.extend(header);
    bytes.extend(body);
    Ok(bytes)
}

/// What follows the first length.
fn parse(bytes: &[u8]) -> anyhow::Result<Answer> {
    let (word, rest) = bytes.split_first_chunk::<4>().context("no header")?;
    let word = u32::from_be_bytes(*word);
    ensure!(word >> 24 == 0, "the header is not JSON");
    let (header, body) = rest.split_at_checked(word as usize).context("a header cut short")?;
    let Header { code, remark, ext_fields } = serde_json::from_slice(header)?;
    let (remark, fields) = (remark.unwrap_or_default(), ext_fields.unwrap_or_default());
    Ok(Answer { code, remark, fields, body: body.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_an_answer_is() {
        let fields = [("topic", "t".to_owned()), ("queueId", 3.to_string())];
        let bytes = frame(Request::Pull, &fields, b"body").unwrap();
        assert_eq!(bytes[..4], ((bytes.len() - 4) as u32).to_be_bytes());
        let answer = parse(&bytes[4..]).unwrap();
        assert_eq!(answer.code, 11);
        assert_eq!(answer.number("queueId").unwrap(), 3);
        assert_eq!(answer.fields["topic"], "t");
        assert_eq!(answer.body, b"body");
        assert!(answer.number("topic").is_err());
    }

    #[test]
    fn a_refusal_says_why() {
        let header = br#"{"code":2007,"flag":1,"remark":"not the leader","version":500}"#;
        let mut bytes = (header.len() as u32).to_be_bytes().to_vec();
        bytes.extend(header);
        let refused = parse(&bytes).unwrap().success().unwrap_err();
        assert_eq!(refused.to_string(), "code 2007: not the leader");
    }

    #[test]
    fn bytes_cut_short_are_an_error() {
        let bytes = frame(Request::Route, &[], b"").unwrap();
        for length in 4..bytes.len() - 1 {
            assert!(parse(&bytes[4..length]).is_err(), "{length}");
        }
        assert!(parse(&[1, 0, 0, 0]).is_err());
    }
}
