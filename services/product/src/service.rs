//! The three calls of `product.v1.ProductService`.

use kit::{Cents, Moment, Page, invalid};
use proto::product::v1::{self, product_service_server::ProductService};
use tonic::{Request, Response, Status};

use crate::store::{NewProduct, Product, Store};

/// A price is at most this many units, so that the total of an order stays an amount too.
const MAX_PRICE: f64 = 1_000_000_000.0;

/// The service over its store.
#[derive(Clone, Debug)]
pub struct Products {
    store: Store,
}

impl Products {
    /// The service over this store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[tonic::async_trait]
impl ProductService for Products {
    async fn create_product(
        &self,
        request: Request<v1::CreateProductRequest>,
    ) -> Result<Response<v1::CreateProductResponse>, Status> {
        let product = NewProduct::try_from(request.into_inner())?;
        let product = self.store.create(product, Moment::now()).await.map_err(kit::fault)?;
        Ok(Response::new(v1::CreateProductResponse { product: Some(product.into()) }))
    }

    async fn get_product(
        &self,
        request: Request<v1::GetProductRequest>,
    ) -> Result<Response<v1::GetProductResponse>, Status> {
        let id = &request.get_ref().id;
        let found = match kit::id("id", id)? {
            Some(id) => self.store.find(id).await.map_err(kit::fault)?,
            None => None,
        };
        let product = found.ok_or_else(|| {
            let shown: String = id.chars().take(80).collect();
            Status::not_found(format!("product {shown:?} does not exist"))
        })?;
        Ok(Response::new(v1::GetProductResponse { product: Some(product.into()) }))
    }

    async fn list_products(
        &self,
        request: Request<v1::ListProductsRequest>,
    ) -> Result<Response<v1::ListProductsResponse>, Status> {
        let v1::ListProductsRequest { page_size, page_token } = request.into_inner();
        let page = Page::parse("products", page_size, &page_token)?;
        let rows = self.store.list(&page).await.map_err(kit::fault)?;
        let (products, next) = page.cut(rows, |product| product.id);
        let products = products.into_iter().map(v1::Product::from).collect();
        let next_page_token = next.unwrap_or_default();
        Ok(Response::new(v1::ListProductsResponse { products, next_page_token }))
    }
}

impl TryFrom<v1::CreateProductRequest> for NewProduct {
    type Error = Status;

    fn try_from(message: v1::CreateProductRequest) -> Result<Self, Status> {
        kit::text("name", &message.name, 200)?;
        if !message.description.is_empty() {
            kit::text("description", &message.description, 10_000)?;
        }
        if message.price > MAX_PRICE && message.price.is_finite() {
            let why = format_args!("found {}, expected at most {MAX_PRICE}", message.price);
            return Err(invalid("price", why));
        }
        let price = Cents::from_units(message.price).map_err(|error| invalid("price", error))?;
        Ok(Self { name: message.name, price, description: message.description })
    }
}

impl From<Product> for v1::Product {
    fn from(stored: Product) -> Self {
        Self {
            id: stored.id.to_string(),
            name: stored.product.name,
            price: stored.product.price.units(),
            description: stored.product.description,
            created_at: Some(stored.created_at.into()),
        }
    }
}
