//! Trailers of a call that succeeds.
//!
//! tonic writes trailers of the handler's own only with an error. So a handler leaves them in the
//! response's extensions, and `write`, around all services, adds them to the last frame.

use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tonic::{Response, body::Body};

#[derive(Clone, Debug, Default)]
struct Trailers(HeaderMap);

/// Leaves `name: value` for the trailers of this response, where the call then succeeds.
pub fn append<T>(response: &mut Response<T>, name: HeaderName, value: HeaderValue) {
    response.extensions_mut().get_or_insert_default::<Trailers>().0.append(name, value);
}

/// Adds what handlers left to the trailers that go out.
pub(crate) fn write(mut response: http::Response<Body>) -> http::Response<Body> {
    let Some(Trailers(left)) = response.extensions_mut().remove() else { return response };
    response.map(|body| {
        Body::new(body.map_frame(move |mut frame: Frame<_>| {
            if let Some(trailers) = frame.trailers_mut()
                && trailers.get("grpc-status").is_some_and(|status| status == "0")
            {
                trailers.extend(left.clone());
            }
            frame
        }))
    })
}
