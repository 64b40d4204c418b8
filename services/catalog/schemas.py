"""The HTTP shapes of catalog."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from caravan.money import Currency, Money
from caravan.text import BrokenRule, TextLine, TextParagraphs

MAX_PRICE = 1_000_000_000
MAX_BULK = 500
UNSET: Any = None

Sku = Annotated[
    str, StringConstraints(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9._ -]*[A-Za-z0-9._-])?$")
]
Name = Annotated[str, TextLine(200)]
Description = Annotated[str, TextParagraphs(5000, min_length=0)]
CategoryName = Annotated[
    str, StringConstraints(min_length=1, max_length=60, pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9 &._-]*[A-Za-z0-9])?$")
]
AttributeName = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
Attributes = Annotated[
    dict[AttributeName, JsonValue], Field(max_length=64, examples=[{"material": "enamel", "volume_ml": 350}])
]
Sort = Literal["relevance", "newest", "name", "price", "-price", "sku"]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Price(Money):
    """What one unit costs: above zero."""

    amount: Annotated[int, Field(ge=1, le=MAX_PRICE, description="minor units, pence for GBP", examples=[1250])]
    currency: Currency


class ProductRequest(Body):
    sku: Sku = Field(examples=["MUG"])
    name: Name = Field(examples=["Enamel mug, blue"])
    description: Description = ""
    category: CategoryName = Field(examples=["kitchen"])
    price: Price
    attributes: Attributes = Field(default_factory=dict)


class ProductPatch(Body):
    """What is absent stays; `attributes` replaces all of them. `active: true` brings a withdrawn product back."""

    name: Name = UNSET
    description: Description = UNSET
    category: CategoryName = UNSET
    price: Price = UNSET
    attributes: Attributes = UNSET
    active: bool = UNSET


class ProductsRequest(Body):
    products: list[ProductRequest] = Field(min_length=1, max_length=MAX_BULK)

    @model_validator(mode="after")
    def check_skus_unique(self) -> "ProductsRequest":
        skus: set[str] = set()
        for index, product in enumerate(self.products):
            if product.sku in skus:
                raise BrokenRule(f"products.{index}.sku", f"{product.sku} stands twice")
            skus.add(product.sku)
        return self


class ProductsSummary(BaseModel):
    created: int
    updated: int
    unchanged: int


class ProductItem(BaseModel):
    """A product. `version` counts its changes from 1."""

    sku: str
    name: str
    description: str
    category: str
    price: Money
    attributes: dict[str, JsonValue]
    active: bool
    version: int
    created_at: datetime
    updated_at: datetime


class Availability(BaseModel):
    on_hand: int
    reserved: int
    available: int


class ProductDocument(ProductItem):
    """One product with its stock; `availability` is null while inventory does not answer."""

    availability: Availability | None


class AttributeRule(Body):
    """`strings` is a list of them. `choices` are the only values that are taken."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"properties": {"type": {"enum": ["string", "strings"]}}},
                {"properties": {"choices": {"type": "null"}}},
            ]
        }
    )

    type: Literal["string", "integer", "number", "boolean", "strings"]
    required: bool = False
    choices: list[Annotated[str, TextLine(200, min_length=0)]] | None = Field(None, min_length=1, max_length=200)

    @model_validator(mode="after")
    def check_choices(self) -> "AttributeRule":
        if self.choices is not None and self.type not in ("string", "strings"):
            raise BrokenRule("choices", "only for string and strings")
        return self


class CategoryRequest(Body):
    """The attributes that products of this category may have. `free`: others, too."""

    attributes: dict[AttributeName, AttributeRule] = Field(
        max_length=64, examples=[{"volume_ml": {"type": "integer", "required": True}}]
    )
    free: bool = False


class CategoryDocument(BaseModel):
    name: str
    attributes: dict[str, AttributeRule]
    free: bool
    version: int


class WatchDocument(BaseModel):
    """One mail comes when the product costs less than `price` or is back in stock, whichever is first; then the watch
    is over.
    """

    sku: str
    email: str
    since: datetime
    price: Money = Field(description="what it cost when the watch began")
