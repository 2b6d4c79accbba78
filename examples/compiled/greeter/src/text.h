#define TEXT "Hello"
