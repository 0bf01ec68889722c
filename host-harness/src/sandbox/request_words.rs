//! The texts that a guest writes into a request: method, scheme, authority, path with query.
//!
//! What: puts a check of their lengths before the library's functions that take them. What is too long is answered
//! like what cannot be a method, a scheme and so on at all: the function fails and the request stays as it was.
//! Why: the library keeps them in this host's memory for as long as the guest keeps the request, and checks their
//! characters only. Neither the limit on one call nor the one on handles bounds what many calls leave behind.
//! Not guaranteed: that what is short enough may leave; that is for the gate to say.

use super::guest::Guest;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::{HostOutgoingRequest, Method, OutgoingRequest, Scheme};

/// The interface as the library links it.
const TYPES: &str = "wasi:http/types@0.2.12";

/// Most bytes of a method or a scheme. The longest that is registered has 17.
const WORD: usize = 64;

/// Most bytes of an authority: a host name has 253 at most, a port with its colon six.
const AUTHORITY: usize = 300;

/// What all of these functions answer.
type Answer = wasmtime::Result<(Result<(), ()>,)>;

/// Puts the checks into a linker that has the interface already.
pub(super) fn bound(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store: StoreContextMut<'_, Guest>, (request, method): (Resource<OutgoingRequest>, Method)| -> Answer {
            if matches!(&method, Method::Other(name) if name.len() > WORD) {
                return Ok((Err(()),));
            }
            Ok((HostOutgoingRequest::set_method(&mut store.data_mut().http(), request, method)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-scheme",
        |mut store: StoreContextMut<'_, Guest>,
         (request, scheme): (Resource<OutgoingRequest>, Option<Scheme>)|
         -> Answer {
            if matches!(&scheme, Some(Scheme::Other(name)) if name.len() > WORD) {
                return Ok((Err(()),));
            }
            Ok((HostOutgoingRequest::set_scheme(&mut store.data_mut().http(), request, scheme)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store: StoreContextMut<'_, Guest>,
         (request, authority): (Resource<OutgoingRequest>, Option<String>)|
         -> Answer {
            if authority.as_ref().is_some_and(|authority| authority.len() > AUTHORITY) {
                return Ok((Err(()),));
            }
            Ok((HostOutgoingRequest::set_authority(&mut store.data_mut().http(), request, authority)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut store: StoreContextMut<'_, Guest>,
         (request, target): (Resource<OutgoingRequest>, Option<String>)|
         -> Answer {
            if target.as_ref().is_some_and(|target| target.len() > store.data().target_bytes) {
                return Ok((Err(()),));
            }
            Ok((HostOutgoingRequest::set_path_with_query(&mut store.data_mut().http(), request, target)?,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}
