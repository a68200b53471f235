//! An answer in XML that ends in its middle, and whose transport tells nothing of that (there is no length, or that
//! of the half), is taken by the SDK for whole: of a listing half, of the open uploads none, of an upload's parts some.
//! So an answer whose root has begun is to have ended, too; else it is as good as lost. (Of what has no root the SDK says so,
//! where there should be one; some stores answer a write with a declaration and nothing else.)

use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

#[derive(Clone, Debug)]
pub(super) struct Whole;

impl Intercept for Whole {
    fn name(&self) -> &'static str {
        "Whole"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response();
        // An object's bytes are not here yet.
        let body = answer.body().bytes().unwrap_or_default();
        if !answer.status().is_success() {
            return Ok(());
        }
        if is_a_page(body) {
            return Err("the answer is a page of HTML, and not of a store".into());
        }
        match ends_in_its_middle(body) {
            true => Err("the answer ends in its middle".into()),
            false => Ok(()),
        }
    }
}

/// Whoever stands before the store says that all is well with him.
fn is_a_page(body: &[u8]) -> bool {
    let is_html = |name: &[u8]| name.eq_ignore_ascii_case(b"html");
    matches!(root_of(body), Some(Root::Begun { name, .. }) if is_html(name))
}

/// Has a document's root begun, and not ended?
fn ends_in_its_middle(body: &[u8]) -> bool {
    match root_of(body) {
        None | Some(Root::Empty) => false,
        Some(Root::Begun { name, inside }) => !has_ended(name, inside),
    }
}

const BOM: &[u8] = "\u{feff}".as_bytes();

enum Root<'a> {
    /// `<Name/>`
    Empty,
    Begun {
        name: &'a [u8],
        inside: &'a [u8],
    },
}

/// The first element that has begun, if its tag is whole.
fn root_of(body: &[u8]) -> Option<Root<'_>> {
    let mut rest = body.strip_prefix(BOM).unwrap_or(body);
    loop {
        rest = rest.trim_ascii_start().strip_prefix(b"<")?;
        let prologue = match rest {
            [b'?', ..] => Some(&b"?>"[..]),
            [b'!', b'-', b'-', ..] => Some(&b"-->"[..]),
            [b'!', ..] => Some(&b">"[..]),
            _ => None,
        };
        match prologue {
            Some(end) => rest = &rest[position(rest, end)? + end.len()..],
            None => break,
        }
    }
    let end = position(rest, b">")?;
    let (tag, inside) = (&rest[..end], &rest[end + 1..]);
    if tag.ends_with(b"/") {
        return Some(Root::Empty);
    }
    let is_space = |byte: &u8| byte.is_ascii_whitespace();
    let name = &tag[..tag.iter().position(is_space).unwrap_or(end)];
    Some(Root::Begun { name, inside })
}

/// Is there an end tag of this name? (Looked for from behind, where it is.)
fn has_ended(name: &[u8], inside: &[u8]) -> bool {
    let mut left = inside;
    while let Some(at) = left.windows(2).rposition(|two| two == b"</") {
        let behind = left[at + 2..].strip_prefix(name);
        if behind.is_some_and(|behind| behind.trim_ascii_start().starts_with(b">")) {
            return true;
        }
        left = &left[..at];
    }
    false
}

fn position(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|part| part == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENTS: [&str; 8] = [
        "<Delete><Deleted><Key>a</Key></Deleted></Delete>",
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3/\"><Key>a&gt;</Key></ListBucketResult>",
        "<ListPartsResult/>",
        "  \n <?xml version='1.0'?><!-- a > b --><!DOCTYPE x><s3:Result a='/'><s3:Key/></s3:Result >",
        "\u{feff}<A></A>",
        "<A><A1></A1></A>",
        "<A>\n</A\n>",
        "<LocationConstraint xmlns=\"http://s3/\" />",
    ];

    #[test]
    fn wherever_a_document_is_cut_it_is_not_whole() {
        let mut tried = 0;
        for document in DOCUMENTS {
            for whole in [document.to_string(), format!("{document} \n<!-- more -->")] {
                assert!(!ends_in_its_middle(whole.as_bytes()), "{whole}");
            }
            let bytes = document.as_bytes();
            for cut in 0..bytes.len() {
                let begun = &bytes[..cut];
                let has_root = matches!(root_of(begun), Some(Root::Begun { .. }));
                assert_eq!(ends_in_its_middle(begun), has_root, "{document} to {cut}");
                tried += usize::from(has_root);
            }
        }
        println!("{tried} cuts behind a root's beginning");
    }

    #[test]
    fn a_page_is_no_answer() {
        for page in [
            "<html><body>ok</body></html>",
            "<!DOCTYPE html>\n<HTML lang='en'>",
        ] {
            assert!(is_a_page(page.as_bytes()), "{page}");
        }
        for answer in DOCUMENTS.into_iter().chain(["", "OK", "<htmlish/>"]) {
            assert!(!is_a_page(answer.as_bytes()), "{answer}");
        }
    }

    #[test]
    fn what_is_no_document_is_left_to_others() {
        let declaration = "<?xml version=\"1.0\"?>\n";
        for body in ["", " ", "{\"a\":1}", "OK", "\u{feff}", declaration, "<A"] {
            assert!(!ends_in_its_middle(body.as_bytes()), "{body:?}");
        }
    }
}
