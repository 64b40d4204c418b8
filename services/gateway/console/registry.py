"""The table of the console's pages: where each is, who may open it, what shows it, and what can be done on it.

Navigation, routes, the checks before each page and action, and the test that tries every role on each of them all come
from `PAGES`. The API checks again: what is declared here decides what is offered, not what is allowed.
"""

from services.gateway.console.page import Page
from services.gateway.console.views import audit, orders, products, system

HOME = "/console/orders"
"""Where `/console` and a sign-in lead."""

PAGES = (
    Page("orders", "/console/orders", "Orders", "customer", "orders.html", orders.load_orders, section="Shop"),
    Page("products", products.PATH, "Products", "staff", "products.html", products.load_products, section="Shop"),
    Page("product", f"{products.PATH}/{{sku}}", "Product", "staff", "product.html", products.load_product),
    Page("system", system.PATH, "System", "staff", "system.html", system.load_system, section="Operations"),
    Page("audit", audit.PATH, "Audit", "admin", "audit.html", audit.load_audit, section="Operations"),
)


def list_sections() -> dict[str, list[Page]]:
    """The pages of the navigation by section, in the order of the table."""
    sections: dict[str, list[Page]] = {}
    for page in PAGES:
        if page.section:
            sections.setdefault(page.section, []).append(page)
    return sections
