"""The table of the console's pages: where each is, who may open it, what shows it, and what can be done on it.

Navigation, routes, the checks before each page and action, and the test that tries every role on each of them all come
from `PAGES`. The API checks again: what is declared here decides what is offered, not what is allowed.
"""

from services.gateway.console.page import Action, Download, Page
from services.gateway.console.views import (
    audit,
    campaigns,
    failures,
    jobs,
    order,
    orders,
    products,
    reconciliation,
    reports,
    system,
    users,
)

HOME = "/console/orders"
"""Where `/console` and a sign-in lead."""

PAGES = (
    Page(
        "orders",
        "/console/orders",
        "Orders",
        "customer",
        "orders.html",
        orders.load_orders,
        section="Shop",
        actions=(Action("place-sample", "Place a sample order", "customer", orders.place_sample_order),),
    ),
    Page(
        "order",
        "/console/orders/{order_id}",
        "Order",
        "customer",
        "order.html",
        order.load_order,
        actions=(
            Action("cancel", "Cancel the order", "customer", order.cancel_order),
            Action("show-personal-data", "Show the address", "staff", order.show_personal_data),
        ),
        live_path="/v1/orders/{order_id}/events",
    ),
    Page("products", products.PATH, "Products", "staff", "products.html", products.load_products, section="Shop"),
    Page("product", f"{products.PATH}/{{sku}}", "Product", "staff", "product.html", products.load_product),
    Page(
        "failures",
        "/console/failures",
        "Failures",
        "admin",
        "failures.html",
        failures.load_failures,
        section="Operations",
    ),
    Page(
        "cause",
        "/console/failures/{cause}",
        "Failures of a cause",
        "admin",
        "cause.html",
        failures.load_cause,
        actions=(
            Action("redrive", "Redrive", "admin", failures.redrive_cause),
            Action("discard", "Discard for good", "admin", failures.discard_cause),
        ),
    ),
    Page(
        "failure",
        "/console/failure/{failure}",
        "Failure",
        "admin",
        "failure.html",
        failures.load_failure,
        actions=(
            Action("redrive", "Redrive this one", "admin", failures.redrive_failure),
            Action("discard", "Discard this one for good", "admin", failures.discard_failure),
            Action("show-personal-data", "Show the persons in it", "admin", failures.show_personal_data),
        ),
    ),
    Page(
        "reconciliation",
        reconciliation.PATH,
        "Reconciliation",
        "admin",
        "reconciliation.html",
        reconciliation.load_cases,
        section="Operations",
        actions=(Action("compare", "Compare everything now", "admin", reconciliation.compare_now),),
    ),
    Page(
        "case",
        f"{reconciliation.PATH}/{{case}}",
        "Case",
        "admin",
        "case.html",
        reconciliation.load_case,
        actions=(
            Action("repair", "Repair", "admin", reconciliation.repair_case),
            Action("approve", "Approve the repair", "admin", reconciliation.approve_case),
            Action("dismiss", "Dismiss", "admin", reconciliation.dismiss_case),
        ),
    ),
    Page(
        "reports",
        reports.PATH,
        "Reports",
        "staff",
        "reports.html",
        reports.load_reports,
        section="Shop",
        downloads=(Download("sales.csv", reports.fetch_sales_csv),),
    ),
    Page(
        "campaigns",
        campaigns.PATH,
        "Campaigns",
        "staff",
        "campaigns.html",
        campaigns.load_campaigns,
        section="Shop",
        actions=(Action("create", "Write the campaign", "staff", campaigns.create_campaign),),
    ),
    Page(
        "campaign",
        f"{campaigns.PATH}/{{campaign}}",
        "Campaign",
        "staff",
        "campaign.html",
        campaigns.load_campaign,
        actions=(
            Action("stop", "Stop", "staff", campaigns.stop_campaign),
            Action("resume", "Resume", "staff", campaigns.resume_campaign),
        ),
    ),
    Page("users", users.PATH, "Users", "admin", "users.html", users.load_users, section="Shop"),
    Page(
        "user",
        f"{users.PATH}/{{user}}",
        "User",
        "admin",
        "user.html",
        users.load_user,
        actions=(
            Action("change-role", "Change the role", "admin", users.change_role),
            Action("disable", "Disable", "admin", users.disable_user),
            Action("enable", "Enable", "admin", users.enable_user),
            Action("show-personal-data", "Show name and address", "admin", users.show_personal_data),
        ),
    ),
    Page("system", system.PATH, "System", "staff", "system.html", system.load_system, section="Operations"),
    Page(
        "jobs",
        jobs.PATH,
        "Jobs",
        "admin",
        "jobs.html",
        jobs.load_jobs,
        section="Operations",
        actions=(
            Action("retry", "Retry", "admin", jobs.retry_job),
            Action("promote", "Run now", "admin", jobs.promote_job),
            Action("remove", "Remove", "admin", jobs.remove_job),
            Action("pause", "Pause", "admin", jobs.pause_queue),
            Action("resume", "Resume", "admin", jobs.resume_queue),
        ),
    ),
    Page("audit", audit.PATH, "Audit", "admin", "audit.html", audit.load_audit, section="Operations"),
)


def list_sections() -> dict[str, list[Page]]:
    """The pages of the navigation by section, in the order of the table."""
    sections: dict[str, list[Page]] = {}
    for page in PAGES:
        if page.section:
            sections.setdefault(page.section, []).append(page)
    return sections
