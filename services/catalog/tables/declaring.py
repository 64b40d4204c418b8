"""What every table of catalog inherits from: the registry of its database."""

from caravan.database.tables import DeclaredTable, define_registry


class CatalogTable(DeclaredTable, registry=define_registry("catalog")):
    pass
