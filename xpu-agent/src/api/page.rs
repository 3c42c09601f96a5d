//! Pages of a List: stable order by id, tokens that need no memory.
//!
//! A token is the hexadecimal text of `{collection}/{last id of the page}`; a page begins after
//! that id, whether the object still exists or not. So tokens survive restarts, and objects that
//! come and go never make another one appear twice.

use prost::Message;
use xpu_model::{Id, Kind, Object, Objects, Spec};

use super::{error::ApiError, invalid};

/// Objects in a page if the request names no number.
const DEFAULT: usize = 50;
/// Objects in a page at most.
const MOST: usize = 250;
/// Bytes of a page's objects at most, unless it has one object only. gRPC clients read 4 MiB by
/// default, and 250 ports may be more.
const MOST_BYTES: usize = 1 << 20;

/// What a List request asks for.
#[derive(Debug)]
pub(super) struct Page {
    kind: Kind,
    size: usize,
    after: Option<Id>,
}

impl Page {
    pub(super) fn parse(kind: Kind, size: i32, token: &str) -> Result<Self, ApiError> {
        let size = match usize::try_from(size) {
            Ok(0) => DEFAULT,
            Ok(size) => size.min(MOST),
            Err(_) => {
                return Err(invalid(
                    "page_size",
                    &format!("{size} is negative; give 0 to {MOST}"),
                ));
            }
        };
        let after = match token {
            "" => None,
            token => Some(decode(kind, token).ok_or_else(|| {
                invalid(
                    "page_token",
                    &"is none of this collection's; start without a token",
                )
            })?),
        };
        Ok(Self { kind, size, after })
    }

    /// The page's objects, as `show` makes them messages, and the next page's token, empty at the
    /// end. A page may have fewer objects than asked for, and another page after it (AIP-158).
    pub(super) fn cut<S: Spec, M: Message>(
        &self,
        objects: &Objects<S>,
        show: impl Fn(&Object<S>) -> M,
    ) -> (Vec<M>, String) {
        let (mut page, mut bytes, mut last) = (Vec::new(), 0, None);
        for object in objects.after(self.after.as_ref()) {
            let message = show(object);
            bytes += message.encoded_len();
            let is_full = page.len() == self.size || bytes > MOST_BYTES;
            if let Some(last) = last.filter(|_| is_full) {
                return (page, encode(self.kind, last));
            }
            page.push(message);
            last = Some(&object.id);
        }
        (page, String::new())
    }
}

/// The token of the page that begins after `last`.
#[must_use]
pub fn encode(kind: Kind, last: &Id) -> String {
    let plain = format!("{}/{last}", kind.collection());
    plain.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// After which id a token's page begins; none for what is not a token of this collection.
#[must_use]
pub fn decode(kind: Kind, token: &str) -> Option<Id> {
    let pairs = token.as_bytes().chunks(2).map(|pair| {
        let digits = std::str::from_utf8(pair)
            .ok()
            .filter(|digits| digits.len() == 2)?;
        u8::from_str_radix(digits, 16).ok()
    });
    let plain = String::from_utf8(pairs.collect::<Option<_>>()?).ok()?;
    let (collection, id) = plain.split_once('/')?;
    let id = id.parse().ok()?;
    // The parser takes digits of both cases, and signs. Only what we wrote is a token.
    (collection == kind.collection() && encode(kind, &id) == token).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_of_one_collection() {
        let id: Id = "blue".parse().unwrap();
        let token = encode(Kind::Vrf, &id);
        assert_eq!(decode(Kind::Vrf, &token), Some(id));
        assert_eq!(decode(Kind::Svi, &token), None);
        for bad in ["x", "zz", "é", "7672667", "00", &token.to_uppercase(), "+7"] {
            assert_eq!(decode(Kind::Vrf, bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes() {
        let size = |size| Page::parse(Kind::Vrf, size, "").map(|page| page.size);
        assert_eq!(size(0), Ok(DEFAULT));
        assert_eq!(size(7), Ok(7));
        assert_eq!(size(i32::MAX), Ok(MOST));
        assert!(
            size(-1)
                .unwrap_err()
                .to_string()
                .starts_with("page_size: -1 is negative")
        );
    }
}
