from tests.planted import retrieval_setting
from tests.retrieved import retrieved

__all__ = ['retrieval_setting', 'retrieved']
