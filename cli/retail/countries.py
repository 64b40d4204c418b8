"""Country names as invoice files write them, as ISO 3166-1 codes."""

FALLBACK_CODE = "GB"
"""Where the file names no country that is known: the seller's own, since the shop takes no order without one."""

CODES = {
    "australia": "AU", "austria": "AT", "bahrain": "BH", "belgium": "BE", "bermuda": "BM", "brazil": "BR",
    "canada": "CA", "channel islands": "JE",
    "china": "CN", "cyprus": "CY", "czech republic": "CZ", "denmark": "DK", "eire": "IE", "ireland": "IE",
    "finland": "FI", "france": "FR", "germany": "DE",
    "greece": "GR", "hong kong": "HK", "iceland": "IS", "india": "IN", "israel": "IL", "italy": "IT", "japan": "JP",
    "korea": "KR", "lebanon": "LB",
    "lithuania": "LT", "luxembourg": "LU", "malta": "MT", "netherlands": "NL", "new zealand": "NZ", "nigeria": "NG",
    "norway": "NO", "poland": "PL",
    "portugal": "PT", "rsa": "ZA", "south africa": "ZA", "saudi arabia": "SA", "singapore": "SG", "spain": "ES",
    "sweden": "SE", "switzerland": "CH",
    "thailand": "TH", "united arab emirates": "AE", "united kingdom": "GB", "usa": "US", "united states": "US",
    "west indies": "JM",
    "deutschland": "DE", "österreich": "AT", "schweiz": "CH", "frankreich": "FR", "suisse": "CH", "belgique": "BE",
    "españa": "ES",
    "italia": "IT", "nederland": "NL", "polska": "PL", "great britain": "GB", "uk": "GB",
    "vereinigtes königreich": "GB", "royaume-uni": "GB",
}  # fmt: skip


def find_country_code(name: str) -> str:
    """By its English name, its own name, or its code."""
    plain = name.strip()
    return plain.upper() if plain.upper() in CODES.values() else CODES.get(plain.casefold(), FALLBACK_CODE)
