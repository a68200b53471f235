//! What a vendor's answers look like beside what they say: status lines and headers, as its pages show them.

use hyper::ext::ReasonPhrase;
use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};

use super::dialect::Vendor;

impl Vendor {
    /// `id` is the request's.
    pub(super) fn dress<B>(self, response: &mut Response<B>, id: &str) {
        let empty = response.status() == StatusCode::NO_CONTENT;
        let amazons_or_coss = self != Vendor::Ncloud;
        if empty && amazons_or_coss {
            // Both call it "204 OK".
            let reason = ReasonPhrase::from_static(b"OK");
            response.extensions_mut().insert(reason);
        }
        let headers = response.headers_mut();
        let mut say = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        match self {
            Vendor::Amazon => {
                say("x-amz-id-2", &format!("{id}{id}"));
                say("x-amz-request-id", id);
                say("server", "AmazonS3");
            }
            Vendor::Ncloud => {
                say("x-amz-request-id", id);
                say("accept-ranges", "bytes");
            }
            Vendor::Cos => {
                say("x-cos-request-id", id);
                say("server", "tencent-cos");
                if empty {
                    say("content-type", "application/xml");
                }
            }
        }
        if empty && amazons_or_coss {
            say("connection", "keep-alive");
        }
    }
}
