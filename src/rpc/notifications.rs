//! Requests without an id: they are carried out and not answered. jsonrpsee drops them unless somebody
//! in front of it does otherwise.

use std::future::Future;

use jsonrpsee::server::middleware::rpc::{
    Batch, BatchEntry, MethodResponse, Notification, Request, RpcServiceT,
};
use jsonrpsee::types::Id;

/// Carries out notifications in front of an RPC service.
#[derive(Debug, Clone, Copy)]
pub(super) struct CarryOut;

impl<S> tower::Layer<S> for CarryOut {
    type Service = CarriedOut<S>;

    fn layer(&self, service: S) -> CarriedOut<S> {
        CarriedOut { service }
    }
}

/// The service with notifications carried out.
#[derive(Debug, Clone)]
pub(super) struct CarriedOut<S> {
    service: S,
}

/// A notification as a request. None for a subscription: nobody would hear of its id, so that nobody
/// could end it.
fn request<'a>(notification: &Notification<'a>) -> Option<Request<'a>> {
    (!notification.method.ends_with(".subscribe")).then(|| Request {
        jsonrpc: notification.jsonrpc,
        id: Id::Null,
        method: notification.method.clone(),
        params: notification.params.clone(),
        extensions: notification.extensions.clone(),
    })
}

impl<S> RpcServiceT for CarriedOut<S>
where
    S: RpcServiceT<MethodResponse = MethodResponse, NotificationResponse = MethodResponse>
        + Clone
        + Send
        + Sync
        + 'static,
{
    type MethodResponse = S::MethodResponse;
    type NotificationResponse = S::NotificationResponse;
    type BatchResponse = S::BatchResponse;

    fn call<'a>(
        &self,
        request: Request<'a>,
    ) -> impl Future<Output = Self::MethodResponse> + Send + 'a {
        self.service.call(request)
    }

    fn notification<'a>(
        &self,
        notification: Notification<'a>,
    ) -> impl Future<Output = Self::NotificationResponse> + Send + 'a {
        let service = self.service.clone();
        async move {
            carry_out(&service, &notification).await;
            service.notification(notification).await
        }
    }

    fn batch<'a>(&self, batch: Batch<'a>) -> impl Future<Output = Self::BatchResponse> + Send + 'a {
        let service = self.service.clone();
        async move {
            // The order within a batch is the server's choice.
            let entries: Vec<_> = batch.into_iter().collect();
            for entry in &entries {
                if let Ok(BatchEntry::Notification(notification)) = entry {
                    carry_out(&service, notification).await;
                }
            }
            service.batch(Batch::from(entries)).await
        }
    }
}

async fn carry_out<S>(service: &S, notification: &Notification<'_>)
where
    S: RpcServiceT<MethodResponse = MethodResponse>,
{
    let Some(request) = request(notification) else {
        return;
    };
    let response = service.call(request).await;
    if !response.is_success() {
        tracing::debug!(method = %notification.method, answer = %response.as_json(), "notified");
    }
}
