from tests.planted import retrieval_setting, world

__all__ = ['retrieval_setting', 'world']
